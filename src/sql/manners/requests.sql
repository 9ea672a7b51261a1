-- What is asked of a run. $1 run.
SELECT stop_asked_by, pause_asked_by,
       to_char(pause_asked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') AS pause_asked_at
FROM toolkit.run WHERE run_id = $1::uuid
