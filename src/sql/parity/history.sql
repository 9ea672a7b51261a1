-- The newest verifications of a pack, oldest first. $1 pack, $2 how many.
SELECT * FROM (
    SELECT run_id::text AS run_id, level, verdict,
           finished_at AS ended,
           to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS finished_at,
           coalesce((totals ->> 'differing_rows')::bigint, 0) AS differing_rows,
           coalesce(jsonb_array_length(nullif(settings -> 'streams', 'null')), 0) > 0 AS is_partial
    FROM toolkit.parity_run
    WHERE pack = $1 AND verdict IN ('clean', 'differences')
    ORDER BY parity_run.finished_at DESC
    LIMIT $2) AS newest
ORDER BY ended, run_id
