-- Asks the processes of a run to end; whoever asked first is remembered. $1 run, $2 user and host.
UPDATE toolkit.run
SET stop_asked_at = coalesce(stop_asked_at, clock_timestamp()),
    stop_asked_by = coalesce(stop_asked_by, session_user || ' (' || $2 || ')')
WHERE run_id = $1::uuid AND status = 'running'
