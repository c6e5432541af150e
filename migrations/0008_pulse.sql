-- The pulse: what each worker has started and ended, by the minute; kept for a day, for charts.

CREATE TABLE IF NOT EXISTS pulse (
    minute timestamptz NOT NULL,
    worker uuid NOT NULL, -- the first identity of the process that counted
    started integer NOT NULL,
    ended integer NOT NULL,
    failed integer NOT NULL, -- of these, ended otherwise than completed
    delay_sum float8 NOT NULL, -- seconds from when each run was due until it started
    longest_delay float8 NOT NULL,
    waiting integer NOT NULL, -- the most runs that were seen due and not started
    PRIMARY KEY (minute, worker)
) WITH (fillfactor = 50); -- a row is written anew every ten seconds, for a minute
