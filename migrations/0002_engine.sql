-- The engine: declared jobs, live runs, the workers' leases. `docs/life-of-a-run.md` explains.

-- A UUID of version 7 (RFC 9562): 48 bits of milliseconds, 12 bits of the fraction of one
-- (method 3 of section 6.2), then randomness; sorts by time.
CREATE OR REPLACE FUNCTION uuid7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(substring(int8send(us / 1000) FROM 3)
        || substring(int4send((28672 + us % 1000 * 4096 / 1000)::integer) FROM 3) -- 0x7000: the version
        || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid
    FROM (SELECT (extract(epoch FROM at) * 1000000)::bigint AS us) t
$$;

-- The time in a UUID of version 7, to the millisecond.
CREATE OR REPLACE FUNCTION uuid7_time(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT to_timestamp(('x0000' || left(replace(id::text, '-', ''), 12))::bit(64)::bigint / 1000.0)
$$;

-- One row a declared job; one without a schedule is a kind of tasks. Workers write what the code
-- says; `new_schedule` and `paused` are an operator's, and win until they are reset.
CREATE TABLE IF NOT EXISTS job (
    name text PRIMARY KEY,
    function text NOT NULL,
    description text NOT NULL,
    declared_schedule text,
    new_schedule text,
    schedule text GENERATED ALWAYS AS (coalesce(new_schedule, declared_schedule)) STORED,
    timezone text NOT NULL,
    settings jsonb NOT NULL,
    max_running integer, -- runs at once in the whole cluster; null: any number
    start_within interval, -- a firing that has not started by then is missed; null: it can wait
    scheduled_at timestamptz NOT NULL DEFAULT now(), -- since when it has this schedule and zone
    paused boolean NOT NULL DEFAULT false
);

-- A worker process and its lease: while the row is there, its runs are its own. A remote worker,
-- which speaks HTTP only, has a row for each claim.
CREATE TABLE IF NOT EXISTS worker (
    id uuid PRIMARY KEY,
    name text NOT NULL, -- host:pid, for people
    remote boolean NOT NULL DEFAULT false,
    host text, -- name, boot id and pid namespace; null: no proof of death possible
    pid integer NOT NULL,
    process_started bigint NOT NULL, -- clock ticks since boot
    jobs text[] NOT NULL, -- what its code knows
    slots integer, -- runs that it performs at once; null: nobody knows, as of a remote worker
    started_at timestamptz NOT NULL DEFAULT now(),
    lease interval NOT NULL,
    lease_until timestamptz NOT NULL,
    leaving boolean NOT NULL DEFAULT false -- told to end; what it leaves is interrupted, not crashed
) WITH (fillfactor = 50);

-- When workers that start together begin: one cell.
CREATE TABLE IF NOT EXISTS opening (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    first_at timestamptz NOT NULL,
    opens_at timestamptz NOT NULL,
    left_at timestamptz NOT NULL -- when a worker has last left in order
);
INSERT INTO opening (first_at, opens_at, left_at) VALUES ('-infinity', '-infinity', '-infinity')
ON CONFLICT DO NOTHING;

-- The server that the workers have settled with, told by its start, and since when: one cell.
-- Another one, or the same in another life, may have another clock than leases were written by.
CREATE TABLE IF NOT EXISTS server (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    started_at timestamptz NOT NULL,
    since timestamptz NOT NULL
);
INSERT INTO server (started_at, since) VALUES ('-infinity', '-infinity') ON CONFLICT DO NOTHING;

-- Grows with every attempt.
CREATE SEQUENCE IF NOT EXISTS fence;

-- Live work only: due, waiting or under way. Nothing may reference this table: an open insert
-- that references a row would hide it from FOR UPDATE SKIP LOCKED.
CREATE TABLE IF NOT EXISTS run (
    id uuid PRIMARY KEY DEFAULT uuid7(),
    job text NOT NULL,
    scheduled boolean NOT NULL DEFAULT true, -- false: a task, which somebody asked for
    priority smallint NOT NULL DEFAULT 0,
    spread interval NOT NULL DEFAULT '0',
    due_at timestamptz NOT NULL, -- the firing, or when it was asked for
    not_before timestamptz NOT NULL, -- due_at at first, later after a failure
    start_by timestamptz, -- while it waits: ended unstarted after this; -infinity: cancelled
    attempt integer NOT NULL DEFAULT 0, -- counted at the claim
    failures integer NOT NULL DEFAULT 0, -- attempts in which the function raised
    crashes integer NOT NULL DEFAULT 0, -- attempts in which the worker died
    error text, -- of the last attempt, when it is to be tried again
    token uuid, -- of the attempt under way; guards every write
    fence bigint,
    worker_id uuid,
    worker text,
    started_at timestamptz,
    begun_at timestamptz, -- when its first attempt started
    progress real,
    sequence bigint NOT NULL DEFAULT 0, -- of the last word on its progress; an older one is late
    checkpoint jsonb, -- what an attempt has kept for the next one
    name text, -- of a task, for people
    args jsonb,
    max_retries smallint, -- of a task that has its own
    CONSTRAINT held_or_waiting CHECK (
        num_nulls(token, fence, worker_id, worker, started_at) IN (0, 5)
    ),
    CONSTRAINT scheduled_or_task CHECK (scheduled = (name IS NULL) AND scheduled = (args IS NULL))
) WITH (fillfactor = 70);

-- One run of a recurring job: two can't overlap by construction.
CREATE UNIQUE INDEX IF NOT EXISTS run_one_of_a_job ON run (job) WHERE scheduled;
-- By job and priority first: a claim walks due rows of jobs that may start, and no others, however
-- many wait for a later time, for a paused job, or for room under a limit.
CREATE INDEX IF NOT EXISTS run_waiting ON run (job, priority DESC, not_before, id)
    WHERE token IS NULL;
CREATE INDEX IF NOT EXISTS run_held ON run (worker_id) WHERE token IS NOT NULL;
CREATE INDEX IF NOT EXISTS run_start_by ON run (start_by)
    WHERE token IS NULL AND start_by IS NOT NULL;
-- Tasks that wait, as people look for them: of one kind newest first, and by name. What is under
-- way is in neither, so a claim and a beat don't pay for them.
CREATE INDEX IF NOT EXISTS run_kind ON run (job, id) WHERE token IS NULL AND NOT scheduled;
CREATE INDEX IF NOT EXISTS run_name ON run (job, name COLLATE "C", id)
    WHERE token IS NULL AND NOT scheduled;
