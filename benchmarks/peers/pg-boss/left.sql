-- Jobs stay, as completed; before that they are created, retry or active.
SELECT count(*) FROM pgboss.job WHERE name = 'noop' AND state < 'completed'
