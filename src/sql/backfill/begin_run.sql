-- $1 run, $2 pack, $3 pack version, $4 settings, $5 inputs, $6 tool version, $7 process id,
-- $8 user and host.
-- A run starts after every earlier one of its pack even where the server's clock was set back: which
-- one is the newest decides what is resumed. Runs of a pack begin one after the other, by its lock.
INSERT INTO toolkit.run (run_id, command, pack, pack_version, settings, inputs, status,
    tool_version, pid, begun_by, started_at)
SELECT $1::uuid, 'backfill', $2, $3, $4::jsonb, $5::jsonb, 'running', $6, $7,
    session_user || ' (' || $8 || ')', greatest(now(), max(started_at) + interval '1 microsecond')
FROM toolkit.run WHERE pack = $2
