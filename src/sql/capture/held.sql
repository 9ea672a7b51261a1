-- What waits in a file, longest untried first. $1 pack, $2 source, $3 how many.
SELECT stream, kind, output, fields, identity::text AS identity, judged
FROM toolkit.capture_held
WHERE pack = $1 AND source = $2
  -- What waits for history is not asked for again and again.
  AND (judged OR reason <> 'orphan' OR tried_at < now() - interval '2 seconds' OR EXISTS (
      SELECT 1 FROM toolkit.run r WHERE r.pack = $1 AND r.command = 'backfill'
        AND r.status = 'completed'))
ORDER BY judged, tried_at
LIMIT $3
