-- A stored verification by id, or the newest one that fits for 'latest'. $1 run id or 'latest',
-- $2 pack or NULL for any, $3 whether it must name rows.
SELECT run_id::text AS run_id, pack, level,
       to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS finished_at,
       coalesce((totals ->> 'differing_rows')::bigint, 0) AS differing_rows
FROM toolkit.parity_run
WHERE verdict IN ('clean', 'differences')
  AND ($2::text IS NULL OR pack = $2)
  AND (run_id::text = lower($1)
       OR $1 = 'latest'
          AND coalesce(settings ->> 'purpose', '') <> 'certificate check'
          AND (NOT $3 OR level IN ('sample', 'full')))
ORDER BY parity_run.finished_at DESC
