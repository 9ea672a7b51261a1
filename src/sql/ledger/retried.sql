-- Rejects to be tried again, with their records. $1 numbers.
SELECT id, output, source, locator, column_name, reason, record, record_sha256, secret, shape
FROM toolkit.reject WHERE id = ANY($1) ORDER BY id
