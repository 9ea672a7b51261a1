-- Rejects that were met beside an unfinished backfill: it must not take them for old ones.
-- $1 pack, $2 stream, $3 digests.
UPDATE toolkit.reject AS r
SET met_during = (SELECT b.run_id FROM toolkit.run b WHERE b.pack = $1 AND b.command = 'backfill'
                    AND b.status IN ('running', 'interrupted', 'failed')
                  ORDER BY b.started_at DESC LIMIT 1)
WHERE r.pack = $1 AND r.stream = $2 AND r.record_sha256 = ANY ($3::bytea[])
