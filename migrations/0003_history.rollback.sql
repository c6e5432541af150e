DROP FUNCTION IF EXISTS drop_history, prepare_history;
DROP TABLE IF EXISTS history;
