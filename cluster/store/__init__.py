"""Store: all SQL of jobs, runs and workers; nothing else in the engine speaks SQL.

`jobs` what is declared and planned, `tasks` what is asked for, `looks` claims, `runs` ends,
`leases` who is alive, `voices` what runs say, `questions` where they are, `views` what pages read,
`waits` why runs wait, `pulse` what charts show, `metrics` what Prometheus reads. Every statement is
committed on its own unless it says otherwise. Time is the database's: `now()` is the start of the
statement (of the transaction where there is one), so all that one statement writes has one time.
The token guards every write to a run under way.
"""
