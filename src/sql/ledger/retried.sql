-- Rejects to be tried again, with their records. $1 numbers.
SELECT id, output, source, locator, reason, record, record_sha256, secret, shape,
    reason = 'invalid_json' AND column_name IS NULL AS is_unread
FROM toolkit.reject WHERE id = ANY($1) ORDER BY id
