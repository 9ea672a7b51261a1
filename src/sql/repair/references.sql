-- Foreign keys whose rows are deleted or changed when a row of $1 (a quoted name) is deleted.
SELECT c.conrelid::regclass::text AS child,
       string_agg(format('c.%I = t.%I', a.attname, r.attname), ' AND ' ORDER BY k.place) AS condition
FROM pg_catalog.pg_constraint c
CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k (referring, referred, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.referring
JOIN pg_catalog.pg_attribute r ON r.attrelid = c.confrelid AND r.attnum = k.referred
WHERE c.contype = 'f' AND c.confrelid = $1::text::regclass
  AND c.confdeltype IN ('c', 'n', 'd') AND c.conparentid = 0
GROUP BY c.oid, c.conrelid
