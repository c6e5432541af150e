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
