-- What a plan says of the verification it comes from. $1 run id.
SELECT coalesce((totals ->> 'encoding_version')::int, 0) AS encoding_version,
       coalesce((totals ->> 'pack_version')::int, 0) AS pack_version,
       coalesce(totals ->> 'pack_fingerprint', '') AS pack_fingerprint
FROM toolkit.parity_run
WHERE run_id = $1::uuid
