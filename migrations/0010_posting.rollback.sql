DROP FUNCTION IF EXISTS enqueue_keyless, uuid7_counted;
