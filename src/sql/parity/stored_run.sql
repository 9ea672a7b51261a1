-- A stored verification. $1 run id.
SELECT run_id::text AS run_id, pack, level, verdict, tool_version,
       to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS started_at,
       extract(epoch FROM finished_at - started_at)::float8 AS seconds,
       settings::text AS settings, inputs::text AS inputs, coalesce(snapshot_lsn::text, '') AS lsn,
       coalesce(totals, '{}')::text AS totals, coalesce(streams, '[]')::text AS streams
FROM toolkit.parity_run
WHERE run_id::text = $1 AND verdict IN ('clean', 'differences')
