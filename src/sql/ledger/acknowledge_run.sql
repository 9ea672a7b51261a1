-- Who acknowledged what, as a run. $1 run, $2 pack, $3 settings, $4 counts, $5 tool version,
-- $6 process id.
INSERT INTO toolkit.run (run_id, command, pack, settings, counts, status, tool_version,
    finished_at, pid)
VALUES ($1::uuid, 'rejects acknowledge', $2, $3::jsonb, $4::jsonb, 'completed', $5, now(), $6)
