-- How far one captured file is applied: $1 pack, $2 source. What may have been missed is copied by a
-- backfill that began later.
SELECT installation::text AS installation, position, halted,
       CASE WHEN NOT EXISTS (SELECT 1 FROM toolkit.run r WHERE r.pack = c.pack
                AND r.command = 'backfill' AND r.status = 'completed' AND r.started_at > c.gap_at)
            THEN gap END AS gap
FROM toolkit.capture_cursor AS c
WHERE pack = $1 AND source = $2
