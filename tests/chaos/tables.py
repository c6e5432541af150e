"""What the suite keeps in the database beside the product's tables."""

JOBS = 10
SCHEMA = """
CREATE TABLE counter (one boolean PRIMARY KEY, value integer NOT NULL);
INSERT INTO counter VALUES (true, 0);
CREATE TABLE counted (run_id uuid NOT NULL, token uuid NOT NULL, at timestamptz NOT NULL);
CREATE TABLE body (
    run_id uuid NOT NULL, token uuid NOT NULL, worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(), ended_at timestamptz
);
CREATE TABLE suicide (
    run_id uuid NOT NULL, worker text NOT NULL, alone boolean NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
"""The counter and who moved it (guarded by the token); when which attempt's body was at work, and
who killed its own process (not guarded), `alone` if that was none of a worker."""
