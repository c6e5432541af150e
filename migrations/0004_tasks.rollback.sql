DROP FUNCTION IF EXISTS enqueue, enqueue_many;
DROP TABLE IF EXISTS task_key;
