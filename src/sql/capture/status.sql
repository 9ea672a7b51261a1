-- $1 pack.
SELECT source, path, captured, position, changes, rows_applied, halted, last_error,
       coalesce(extract(epoch FROM now() - waiting_since), 0)::float8 AS waiting_seconds,
       extract(epoch FROM now() - seen_at)::float8 AS seen_seconds_ago,
       CASE WHEN NOT EXISTS (SELECT 1 FROM toolkit.run r WHERE r.pack = c.pack
                AND r.command = 'backfill' AND r.status = 'completed' AND r.started_at > c.gap_at)
            THEN gap END AS gap
FROM toolkit.capture_cursor AS c
WHERE pack = $1 AND installation IS NOT NULL
ORDER BY source
