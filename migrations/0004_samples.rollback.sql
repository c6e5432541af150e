DROP TABLE IF EXISTS run_hourly, finding;
