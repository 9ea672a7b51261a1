-- Rejects of records that were looked at again, but for those met again. $1 pack, $2 stream,
-- $3 sources, $4 locators, $5 digests that were met.
UPDATE toolkit.reject AS r SET state = 'resolved'
FROM unnest($3::text[], $4::text[]) AS p (source, locator)
WHERE r.pack = $1 AND r.stream = $2 AND r.source = p.source AND r.locator = p.locator
  AND r.state IN ('open', 'acknowledged', 'retried') AND NOT r.record_sha256 = ANY ($5::bytea[])
