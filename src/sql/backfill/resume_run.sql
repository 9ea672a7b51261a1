-- An unfinished run goes on: whoever asked it to stop has had it; a pause stays asked for.
-- $1 run, $2 process id.
UPDATE toolkit.run
SET status = 'running', error = NULL, finished_at = NULL, pid = $2, stop_asked_at = NULL,
    stop_asked_by = NULL
WHERE run_id = $1::uuid
