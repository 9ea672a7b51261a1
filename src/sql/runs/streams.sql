-- How far each stream of a run is. $1 run.
SELECT coalesce(s.stream, c.stream) AS stream, coalesce(s.state, 'copying') AS state,
    s.records_expected, coalesce(c.read, 0) AS rows_read, coalesce(c.done, 0) AS chunks_done,
    coalesce(c.pending, 0) AS chunks_pending
FROM (SELECT * FROM toolkit.stream_state WHERE run_id = $1::uuid) s
FULL JOIN (
    SELECT stream, sum(rows_read)::bigint AS read,
        count(*) FILTER (WHERE status = 'done') AS done,
        count(*) FILTER (WHERE status = 'pending') AS pending,
        min(committed_at) AS first_at
    FROM toolkit.chunk WHERE run_id = $1::uuid GROUP BY stream
) c USING (stream)
ORDER BY c.first_at NULLS LAST, 1
