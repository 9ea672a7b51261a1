-- $1 pack, $2 source, $3 streams, $4 hash, $5 size, $6 modification time, $7 status change
-- time, $8 inode. Of copies of one content
-- one is read: the others are looked at again when any of them comes, changes or goes.
WITH before AS (
    SELECT sha256 FROM toolkit.capture_file WHERE pack = $1 AND source = $2
), stored AS (
    INSERT INTO toolkit.capture_file AS f (pack, source, streams, sha256, size_bytes, modified_ns,
        changed_ns, inode, position)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nextval('toolkit.capture_file_position'))
    ON CONFLICT (pack, source) DO UPDATE
    SET streams = EXCLUDED.streams, sha256 = EXCLUDED.sha256, size_bytes = EXCLUDED.size_bytes,
        modified_ns = EXCLUDED.modified_ns, changed_ns = EXCLUDED.changed_ns,
        inode = EXCLUDED.inode, settled = false, position = EXCLUDED.position, applied_at = now(),
        vanished_at = NULL, problem = NULL
    RETURNING f.sha256
)
UPDATE toolkit.capture_file AS c SET sha256 = ''
WHERE c.pack = $1 AND c.source <> $2 AND c.sha256 <> ''
  AND (SELECT coalesce(max(b.sha256), '') FROM before AS b) IS DISTINCT FROM $4
  AND (SELECT coalesce(max(b.sha256), '') FROM before AS b) NOT IN ('', $4)
  AND c.sha256 = (SELECT max(b.sha256) FROM before AS b)
