-- Tasks: runs that somebody asked for. Any client may enqueue them in its own transaction.

-- Which task an idempotency key has made, and from what; kept for a day.
CREATE TABLE IF NOT EXISTS task_key (
    key text PRIMARY KEY,
    task_id uuid NOT NULL,
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS task_key_created ON task_key (created_at);

-- Enqueues many tasks in one statement: a JSON array of objects with the parameters of `enqueue`.
-- verdict: 'new'; 'known', the key made this same task before; 'key_reused', it made another one.
-- The caller rolls back if it does not like what it reads. Two at once with one key: the second
-- waits for the first, and reads the task that the first has made. Names and arguments are not
-- looked at: that is `enqueue`'s and the application's part.
CREATE OR REPLACE FUNCTION enqueue_many(tasks jsonb)
RETURNS TABLE (place bigint, id uuid, verdict text)
LANGUAGE sql AS $$
    WITH incoming AS MATERIALIZED (
        SELECT t.*, uuid7(t.now) AS id, CASE WHEN t.idempotency_key IS NOT NULL THEN
            sha256(convert_to(jsonb_build_array(t.kind, t.args, t.name, t.priority,
                extract(epoch FROM t.run_at), t.max_retries, extract(epoch FROM t.deadline)
            )::text, 'UTF8')) END AS digest
        -- A moment for each, so that their ids and their turns are in the order of the array.
        FROM (SELECT *, clock_timestamp() AS now
            FROM ROWS FROM (jsonb_to_recordset(tasks) AS (kind text, args jsonb, name text,
                priority smallint, run_at timestamptz, max_retries smallint, idempotency_key text,
                deadline timestamptz)) WITH ORDINALITY AS r (kind, args, name, priority, run_at,
                max_retries, idempotency_key, deadline, place)
            OFFSET 0) t -- which keeps the clock from being read once more for each use
    ), keyed AS (
        INSERT INTO task_key (key, task_id, digest)
        SELECT DISTINCT ON (i.idempotency_key) i.idempotency_key, i.id, i.digest
        FROM incoming i WHERE i.idempotency_key IS NOT NULL
        ORDER BY i.idempotency_key, i.place -- one order for all, so that two can't wait for each other
        ON CONFLICT (key) DO UPDATE SET key = excluded.key
        RETURNING key, task_id, task_key.digest
    ), settled AS (
        SELECT i.place, coalesce(k.task_id, i.id) AS id, CASE
            WHEN k.key IS NULL OR k.task_id = i.id THEN 'new'
            WHEN k.digest = i.digest THEN 'known' ELSE 'key_reused' END AS verdict
        FROM incoming i LEFT JOIN keyed k ON k.key = i.idempotency_key
    ), created AS (
        INSERT INTO run (id, job, scheduled, name, args, priority, due_at, not_before, start_by,
            max_retries)
        SELECT i.id, i.kind, false, coalesce(i.name, i.kind), coalesce(i.args, '{}'),
            coalesce(i.priority, (j.settings ->> 'priority')::smallint, 0::smallint),
            coalesce(i.run_at, i.now), coalesce(i.run_at, i.now), i.deadline, i.max_retries
        FROM incoming i JOIN settled s ON s.place = i.place LEFT JOIN job j ON j.name = i.kind
        WHERE s.verdict = 'new'
    )
    SELECT s.place, s.id, s.verdict FROM settled s ORDER BY s.place
$$;

-- Enqueues one task in the transaction of whoever calls: it exists if and only if that commits.
-- The arguments are checked against the kind's function when the task starts. Errors: 22023 for
-- an unknown kind, arguments that are no object, or a value out of range; 23505 for a key that
-- has made another task.
CREATE OR REPLACE FUNCTION enqueue(
    kind text, args jsonb DEFAULT '{}', name text DEFAULT NULL, priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, max_retries integer DEFAULT NULL,
    idempotency_key text DEFAULT NULL, deadline timestamptz DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    made record;
BEGIN
    IF NOT EXISTS (SELECT FROM job j WHERE j.name = enqueue.kind AND j.schedule IS NULL) THEN
        RAISE EXCEPTION 'there is no kind of tasks %', quote_nullable(kind) USING ERRCODE = '22023';
    ELSIF jsonb_typeof(args) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'args have to be a JSON object' USING ERRCODE = '22023';
    ELSIF priority NOT BETWEEN -100 AND 100 OR max_retries NOT BETWEEN 0 AND 100 THEN
        RAISE EXCEPTION 'priority is -100 to 100, max_retries 0 to 100' USING ERRCODE = '22023';
    ELSIF run_at NOT BETWEEN '1970-01-01Z' AND '3000-01-01Z'
        OR deadline NOT BETWEEN '1970-01-01Z' AND '3000-01-01Z' OR deadline <= run_at THEN
        RAISE EXCEPTION 'run_at and deadline are in the years 1970 to 2999, in this order'
            USING ERRCODE = '22023';
    END IF;
    SELECT * INTO made FROM enqueue_many(jsonb_build_array(jsonb_build_object(
        'kind', kind, 'args', args, 'name', name, 'priority', priority, 'run_at', run_at,
        'max_retries', max_retries, 'idempotency_key', idempotency_key, 'deadline', deadline)));
    IF made.verdict = 'key_reused' THEN
        RAISE EXCEPTION 'the key % has made another task, %', quote_literal(idempotency_key), made.id
            USING ERRCODE = '23505';
    END IF;
    RETURN made.id;
END $$;
