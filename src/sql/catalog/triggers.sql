-- User triggers that fire when rows are written to one table or a partition of it.
-- $1 schema, $2 table. tgtype bits (src/include/catalog/pg_trigger.h): 1 row, 2 before, 4 insert,
-- 8 delete, 16 update, 64 instead. Capture triggers are left out: they are silent for the toolkit.
-- Deletes count too: a row that changes its partition is deleted.
WITH RECURSIVE member AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2
    UNION ALL
    SELECT i.inhrelid
    FROM member m
    JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE c.relispartition
)
SELECT n.nspname::text AS schema, c.relname::text AS table, t.tgname::text AS name,
       t.tgenabled = 'A' AS always, t.tgtype::int4 & 2 > 0 AS before, t.tgtype::int4 & 1 > 0 AS row
FROM member m
JOIN pg_catalog.pg_trigger t ON t.tgrelid = m.oid
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgname !~ '^toolkit_reverse_' AND t.tgenabled IN ('O', 'A')
  AND t.tgtype::int4 & CASE WHEN c.relispartition THEN 28 ELSE 20 END > 0
ORDER BY n.nspname, c.relname, t.tgname
