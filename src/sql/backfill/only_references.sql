-- The foreign keys of a table, by name, and whether each leads to a partitioned table; none where
-- this session may not switch the table's triggers off for itself, or where they guard more than
-- those keys: user triggers, deferrable unique keys, keys of a partition alone, keys whose columns
-- are of other types than those that are compared byte by byte.
-- $1 schema, $2 table, $3 names of the foreign keys.
WITH target AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2
), part AS (
    SELECT oid FROM target
    UNION
    SELECT p.relid FROM target t, pg_catalog.pg_partition_tree(t.oid) p
), reference AS (
    SELECT k.*
    FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f' AND k.conrelid IN (SELECT oid FROM part)
)
SELECT k.conname::text AS name, p.relkind = 'p' AS is_partitioned
FROM reference k
JOIN pg_catalog.pg_class p ON p.oid = k.confrelid
WHERE k.conrelid IN (SELECT oid FROM target) AND k.conparentid = 0
  AND pg_catalog.current_setting('is_superuser') = 'on'
  AND pg_catalog.current_setting('session_replication_role') = 'origin'
  AND NOT EXISTS (
      SELECT 1
      FROM pg_catalog.pg_trigger t
      LEFT JOIN pg_catalog.pg_constraint c ON c.oid = t.tgconstraint
      WHERE t.tgrelid IN (SELECT oid FROM part)
        AND (NOT t.tgisinternal OR c.contype IS DISTINCT FROM 'f'))
  AND NOT EXISTS (
      SELECT 1
      FROM reference r
      WHERE coalesce((pg_catalog.to_jsonb(r) ->> 'conperiod')::boolean, false)
         OR r.conparentid = 0
            AND (r.conrelid NOT IN (SELECT oid FROM target) OR r.conname <> ALL ($3::text[]))
         OR r.conparentid <> 0 AND r.conrelid IN (SELECT oid FROM target)
            AND NOT EXISTS (SELECT 1 FROM reference o
                            WHERE o.oid = r.conparentid AND o.conrelid = r.conrelid)
         OR EXISTS (
            SELECT 1
            FROM pg_catalog.pg_attribute a
            WHERE (a.attrelid = r.conrelid AND a.attnum = ANY (r.conkey)
                   OR a.attrelid = r.confrelid AND a.attnum = ANY (r.confkey))
              AND a.atttypid <> ALL (ARRAY['int2'::regtype, 'int4'::regtype, 'int8'::regtype,
                                           'uuid'::regtype, 'text'::regtype, 'varchar'::regtype])))
