SELECT count(*) FROM huey_task
