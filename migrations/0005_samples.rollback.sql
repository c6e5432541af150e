DROP TABLE IF EXISTS imported, run_hourly, finding;
