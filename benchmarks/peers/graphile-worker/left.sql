-- A job is deleted when it is complete. The view graphile_worker.jobs would join two more tables.
SELECT count(*) FROM graphile_worker._private_jobs
