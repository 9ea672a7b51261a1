-- What waits in a file, longest untried first; and rows that a backfill refused because of other
-- rows, which a change may help as well. $1 pack, $2 source, $3 how many.
SELECT stream, kind, output, fields, identity::text AS identity, judged, place
FROM (
    SELECT stream, kind, output, fields, identity, judged, place, tried_at
    FROM toolkit.capture_held
    WHERE pack = $1 AND source = $2
      -- What waits for history is not asked for again and again.
      AND (judged OR reason <> 'orphan' OR tried_at < now() - interval '2 seconds' OR EXISTS (
          SELECT 1 FROM toolkit.run r WHERE r.pack = $1 AND r.command = 'backfill'
            AND r.status = 'completed'))
    UNION ALL
    SELECT r.stream, 'row', 0, NULL, NULL, true, r.locator, r.created_at
    FROM toolkit.reject r
    WHERE r.pack = $1 AND r.source = $2 AND r.state IN ('open', 'acknowledged')
      AND r.reason IN ('orphan', 'unique_collision', 'duplicate_key')
      AND NOT EXISTS (SELECT 1 FROM toolkit.capture_held h WHERE h.pack = r.pack
          AND h.stream = r.stream AND h.source = r.source AND h.kind = 'row'
          AND h.place = r.locator)
) AS waiting
ORDER BY judged, tried_at
LIMIT $3
