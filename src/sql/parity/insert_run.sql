-- $1 run, $2 pack, $3 level, $4 verdict, $5 seconds it took, $6 tool version, $7 settings,
-- $8 inputs, $9 LSN, $10 snapshot, $11 totals, $12 streams, $13 what it was compared with.
-- It finished after every earlier one even where the server's clock was set back: which one is the
-- newest decides what is repaired.
INSERT INTO toolkit.parity_run (run_id, pack, level, against, verdict, started_at, finished_at,
    tool_version, settings, inputs, snapshot_lsn, snapshot_xmin, totals, streams)
SELECT $1::uuid, $2, $3, $13, $4, now() - make_interval(secs => $5),
    greatest(now(), max(finished_at) + interval '1 microsecond'),
    $6, $7::jsonb, $8::jsonb, nullif($9, '')::pg_lsn, $10, $11::jsonb, $12::jsonb
FROM toolkit.parity_run
