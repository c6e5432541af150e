-- History: every finished attempt, append-only, in partitions of one day (UTC) that are dropped
-- whole at the end of the retention.

CREATE TABLE IF NOT EXISTS history (
    run_id uuid NOT NULL,
    job text NOT NULL,
    attempt integer NOT NULL,
    token uuid,
    fence bigint,
    worker text,
    due_at timestamptz NOT NULL,
    due_until timestamptz, -- of lost firings that share a row: all from due_at until then
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN (
        'completed', 'failed', 'crashed', 'timed_out', 'cancelled', 'interrupted', 'fenced',
        'skipped', 'missed')),
    error text,
    traceback text,
    -- The last row of a task carries the task. It is no more the last when the task is retried.
    closing boolean NOT NULL DEFAULT false,
    name text,
    args jsonb,
    priority smallint,
    max_retries smallint,
    failures integer,
    result jsonb
) PARTITION BY RANGE (finished_at);
CREATE INDEX IF NOT EXISTS history_run ON history (run_id, attempt);
CREATE INDEX IF NOT EXISTS history_job ON history (job, finished_at, run_id);
-- Tasks that are over, by what became of them. Ids and times grow, so that new entries come after
-- those of their kind: in falling order each page would be split in the middle, and stay half empty.
CREATE INDEX IF NOT EXISTS history_completed ON history (run_id)
    WHERE closing AND outcome = 'completed';
CREATE INDEX IF NOT EXISTS history_error ON history (run_id)
    WHERE closing AND outcome <> 'completed';
-- The same of one kind; and by name, for who searches one, or its beginning.
CREATE INDEX IF NOT EXISTS history_kind_completed ON history (job, run_id)
    WHERE closing AND outcome = 'completed';
CREATE INDEX IF NOT EXISTS history_kind_error ON history (job, run_id)
    WHERE closing AND outcome <> 'completed';
CREATE INDEX IF NOT EXISTS history_name_completed ON history (job, name COLLATE "C", run_id)
    WHERE closing AND outcome = 'completed';
CREATE INDEX IF NOT EXISTS history_name_error ON history (job, name COLLATE "C", run_id)
    WHERE closing AND outcome <> 'completed';

-- The net under the days: without a partition for today a finish would fail.
CREATE TABLE IF NOT EXISTS history_default PARTITION OF history DEFAULT;

-- Makes the partitions of today and the days ahead; returns how many it made. A day that has
-- rows in history_default already stays there. Two at once: the second leaves it to the first.
CREATE OR REPLACE FUNCTION prepare_history(days_ahead integer DEFAULT 3) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day date;
    name text;
    made integer := 0;
BEGIN
    FOR day IN SELECT today + n FROM generate_series(0, days_ahead) AS n LOOP
        name := 'history_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        EXIT WHEN NOT pg_try_advisory_xact_lock(hashtext('ronin.prepare_history'));
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        CONTINUE WHEN EXISTS (
            SELECT FROM history_default WHERE finished_at >= day::timestamp AT TIME ZONE 'UTC'
                AND finished_at < (day + 1)::timestamp AT TIME ZONE 'UTC');
        -- Attaching takes a weaker lock on history than creating as a partition would.
        EXECUTE format('CREATE TABLE %I (LIKE history INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE history ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
            day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drops the days that ended longer ago than the retention; returns how many. Does not wait long
-- for a lock: others would queue up behind it. A long query on history puts it off by an error.
CREATE OR REPLACE FUNCTION drop_history(retention interval) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    oldest date := ((now() - retention) AT TIME ZONE 'UTC')::date;
    old regclass;
    dropped integer := 0;
BEGIN
    FOR old IN
        SELECT c.oid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'history'::regclass AND c.relname ~ '^history_\d{8}$'
            AND right(c.relname, 8) < to_char(oldest, 'YYYYMMDD')
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %s', old);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM history_default WHERE finished_at < now() - retention;
    RETURN dropped;
END $$;

DO $$ BEGIN PERFORM prepare_history(); END $$;
