-- A command's run, as a whole. $1 run, $2 pack, $3 settings, $4 counts, $5 tool version,
-- $6 process id, $7 command, $8 status.
INSERT INTO toolkit.run (run_id, command, pack, settings, counts, status, tool_version,
    finished_at, pid)
VALUES ($1::uuid, $7, $2, $3::jsonb, $4::jsonb, $8, $5,
    CASE WHEN $8 = 'completed' THEN now() END, $6)
