-- A process begins to work on a run.
-- $1 process, $2 run, $3 host, $4 process id, $5 workers at most, $6 user and host.
INSERT INTO toolkit.run_process (process, run_id, host, pid, workers, begun_by)
VALUES ($1::uuid, $2::uuid, $3, $4, $5, session_user || ' (' || $6 || ')')
