-- $1 run, $2 pack, $3 pack version, $4 settings, $5 inputs, $6 tool version, $7 process id.
INSERT INTO toolkit.run (run_id, command, pack, pack_version, settings, inputs, status,
    tool_version, pid)
VALUES ($1::uuid, 'backfill', $2, $3, $4::jsonb, $5::jsonb, 'running', $6, $7)
