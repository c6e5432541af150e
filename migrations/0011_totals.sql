-- Totals: what the workers have started and ended, by job; they only grow, for counters.

-- What the pulse says of each job, until the minute is over; then it is added to the total.
CREATE TABLE IF NOT EXISTS pulse_job (
    worker uuid NOT NULL, -- as in pulse
    minute timestamptz NOT NULL,
    job text NOT NULL,
    what text NOT NULL, -- 'started', or the outcome with which attempts ended
    attempts integer NOT NULL,
    seconds float8 NOT NULL, -- of waiting until they started, or of work until they ended
    last_at timestamptz NOT NULL, -- when the last of them was counted
    PRIMARY KEY (worker, minute, job, what)
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS total (
    job text NOT NULL,
    what text NOT NULL,
    attempts bigint NOT NULL,
    seconds float8 NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (job, what)
) WITH (fillfactor = 50);

-- Tasks that were parked because they had killed their worker too often; next to none.
CREATE INDEX IF NOT EXISTS history_parked ON history (job) WHERE closing AND outcome = 'crashed';
