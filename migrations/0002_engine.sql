-- The engine: declared jobs, live runs, the workers' leases. `docs/life-of-a-run.md` explains.

-- A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then randomness; sorts by time.
CREATE OR REPLACE FUNCTION uuid7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM at) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- The time in a UUID of version 7, to the millisecond.
CREATE OR REPLACE FUNCTION uuid7_time(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT to_timestamp(('x0000' || left(replace(id::text, '-', ''), 12))::bit(64)::bigint / 1000.0)
$$;

-- One row a declared job. Workers write what the code says; `new_schedule` and `paused` are an
-- operator's, and win until they are reset.
CREATE TABLE IF NOT EXISTS job (
    name text PRIMARY KEY,
    function text NOT NULL,
    description text NOT NULL,
    declared_schedule text NOT NULL,
    new_schedule text,
    schedule text GENERATED ALWAYS AS (coalesce(new_schedule, declared_schedule)) STORED,
    timezone text NOT NULL,
    settings jsonb NOT NULL,
    paused boolean NOT NULL DEFAULT false
);

-- A worker process and its lease: while the row is there, its runs are its own.
CREATE TABLE IF NOT EXISTS worker (
    id uuid PRIMARY KEY,
    name text NOT NULL, -- host:pid, for people
    host text, -- name, boot id and pid namespace; null: no proof of death possible
    pid integer NOT NULL,
    process_started bigint NOT NULL, -- clock ticks since boot
    jobs text[] NOT NULL, -- what its code knows
    started_at timestamptz NOT NULL DEFAULT now(),
    lease interval NOT NULL,
    lease_until timestamptz NOT NULL,
    leaving boolean NOT NULL DEFAULT false -- told to end; what it leaves is interrupted, not crashed
) WITH (fillfactor = 50);

-- When workers that start together begin: one cell.
CREATE TABLE IF NOT EXISTS opening (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    first_at timestamptz NOT NULL,
    opens_at timestamptz NOT NULL
);
INSERT INTO opening (first_at, opens_at) VALUES ('-infinity', '-infinity') ON CONFLICT DO NOTHING;

-- Grows with every attempt.
CREATE SEQUENCE IF NOT EXISTS fence;

-- Live work only: due, waiting or under way. Nothing may reference this table: an open insert
-- that references a row would hide it from FOR UPDATE SKIP LOCKED.
CREATE TABLE IF NOT EXISTS run (
    id uuid PRIMARY KEY DEFAULT uuid7(),
    job text NOT NULL,
    scheduled boolean NOT NULL DEFAULT true,
    priority smallint NOT NULL DEFAULT 0,
    spread interval NOT NULL DEFAULT '0',
    due_at timestamptz NOT NULL, -- the firing, or when it was asked for
    not_before timestamptz NOT NULL, -- due_at at first, later after a failure
    attempt integer NOT NULL DEFAULT 0, -- counted at the claim
    failures integer NOT NULL DEFAULT 0, -- attempts in which the function raised
    crashes integer NOT NULL DEFAULT 0, -- attempts in which the worker died
    token uuid, -- of the attempt under way; guards every write
    fence bigint,
    worker_id uuid,
    worker text,
    started_at timestamptz,
    progress real,
    CONSTRAINT held_or_waiting CHECK (
        num_nulls(token, fence, worker_id, worker, started_at) IN (0, 5)
    )
) WITH (fillfactor = 70);

-- One run of a recurring job: two can't overlap by construction.
CREATE UNIQUE INDEX IF NOT EXISTS run_one_of_a_job ON run (job) WHERE scheduled;
CREATE INDEX IF NOT EXISTS run_waiting ON run (priority DESC, not_before, id) WHERE token IS NULL;
CREATE INDEX IF NOT EXISTS run_held ON run (worker_id) WHERE token IS NOT NULL;
