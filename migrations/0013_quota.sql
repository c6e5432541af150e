-- How much of its minute a client has used by posting tasks, if RONIN_POSTS_PER_MINUTE limits that.
-- Not logged: nothing is lost with it but the memory of a minute.
CREATE UNLOGGED TABLE IF NOT EXISTS quota (
    client text PRIMARY KEY,
    until timestamptz NOT NULL -- when all of its tasks so far would be in, one after the other
);
