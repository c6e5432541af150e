-- Drops days that ended longer ago than the retention, the oldest first; returns how many, ten at
-- most, so that a retention that was made shorter is not one long transaction. Does not wait long
-- for a lock: others would queue up behind it. A long query on history puts it off by an error.
-- Two at once: the second leaves it to the first.
CREATE OR REPLACE FUNCTION drop_history(retention interval) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    oldest date := ((now() - retention) AT TIME ZONE 'UTC')::date;
    old regclass;
    dropped integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('ronin.drop_history')) THEN
        RETURN 0;
    END IF;
    FOR old IN
        SELECT c.oid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'history'::regclass AND c.relname ~ '^history_\d{8}$'
            AND right(c.relname, 8) < to_char(oldest, 'YYYYMMDD')
        ORDER BY c.relname LIMIT 10
    LOOP
        EXECUTE format('DROP TABLE %s', old);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM history_default WHERE finished_at < now() - retention;
    RETURN dropped;
END $$;
