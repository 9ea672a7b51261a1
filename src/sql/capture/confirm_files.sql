-- $1 pack, then as arrays: $2 sources, $3 hashes, $4 sizes, $5 modification times, $6 status change
-- times, $7 inodes. Only of files that are as they were applied.
UPDATE toolkit.capture_file AS f
SET size_bytes = n.size_bytes, modified_ns = n.modified_ns, changed_ns = n.changed_ns,
    inode = n.inode, settled = true
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS n (source, sha256, size_bytes, modified_ns, changed_ns, inode)
WHERE f.pack = $1 AND f.source = n.source AND f.sha256 = n.sha256
