-- Refused records that were stored corrected. $1 pack.
SELECT stream, output, source, locator, record_sha256, coalesce(shape, 'record') AS shape, corrected
FROM toolkit.reject
WHERE pack = $1 AND state = 'retried' AND corrected IS NOT NULL
ORDER BY id
