-- What runs say, and where they are: lines of their logs, and the stacks that somebody asked for.

-- The last 64 KiB of each attempt, in chunks that are only added and deleted. By the token as
-- well: after a failover that lost a claim two attempts may have one number.
CREATE TABLE IF NOT EXISTS log_chunk (
    run_id uuid NOT NULL,
    attempt integer NOT NULL,
    token uuid NOT NULL,
    number integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    text text NOT NULL,
    PRIMARY KEY (run_id, attempt, token, number)
);
CREATE INDEX IF NOT EXISTS log_chunk_at ON log_chunk (at);

-- "Where is it now?", asked of an attempt under way; its worker looks here and answers.
CREATE TABLE IF NOT EXISTS question (
    token uuid PRIMARY KEY,
    run_id uuid NOT NULL,
    attempt integer NOT NULL,
    worker text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    stack text,
    answered_at timestamptz
);
