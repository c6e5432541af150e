DROP INDEX IF EXISTS history_parked;
DROP TABLE IF EXISTS total, pulse_job;
