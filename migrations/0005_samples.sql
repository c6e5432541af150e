-- What the sample jobs write: findings, and statistics of runs by job and hour.

-- The last thing each sample job found, one row a job.
CREATE TABLE IF NOT EXISTS finding (
    job text PRIMARY KEY,
    found_at timestamptz NOT NULL DEFAULT now(),
    body jsonb NOT NULL
);

-- Runs that ended in an hour, by job and outcome.
CREATE TABLE IF NOT EXISTS run_hourly (
    job text NOT NULL,
    hour timestamptz NOT NULL,
    outcome text NOT NULL,
    runs bigint NOT NULL,
    total_seconds double precision NOT NULL,
    longest_seconds double precision NOT NULL,
    PRIMARY KEY (job, hour, outcome)
);

-- Rows that tasks have imported, one row a line.
CREATE TABLE IF NOT EXISTS imported (
    task_id uuid NOT NULL,
    line integer NOT NULL,
    fields jsonb NOT NULL,
    PRIMARY KEY (task_id, line)
);
