-- Streams copied to their end by runs of this very pack that began after phase 2 was last
-- entered from below.
-- $1 pack, $2 fingerprint of pack.toml
SELECT DISTINCT ON (s.stream) s.stream, r.run_id::text AS run_id
FROM toolkit.run r
JOIN toolkit.stream_state s ON s.run_id = r.run_id
JOIN toolkit.phase p ON p.pack = r.pack
WHERE r.pack = $1 AND r.command = 'backfill' AND r.status = 'completed' AND s.state = 'done'
  AND r.settings ->> 'pack_fingerprint' = $2
  AND r.started_at >= coalesce(
      (SELECT max(t.at) FROM toolkit.phase_transition t
       WHERE t.pack = r.pack AND t.to_phase = 2 AND t.from_phase < 2), p.entered_at)
  AND NOT EXISTS (SELECT FROM toolkit.chunk c
                  WHERE c.run_id = r.run_id AND c.stream = s.stream AND c.status <> 'done')
ORDER BY s.stream, r.started_at DESC
