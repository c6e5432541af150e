DROP TABLE IF EXISTS run, server, opening, worker, job;
DROP SEQUENCE IF EXISTS fence;
DROP FUNCTION IF EXISTS uuid7, uuid7_time;
