-- Whether the order in which rows of different keys arrive in a table can decide what becomes of
-- them: a unique index that the key does not cover, an exclusion constraint, a foreign key into
-- the table itself, a trigger or rule, or a key for which different texts are equal.
-- $1 schema, $2 table, $3 names of the key's columns.
WITH target AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2
), part AS (
    SELECT oid FROM target
    UNION
    SELECT p.relid FROM target t, pg_catalog.pg_partition_tree(t.oid) p
)
SELECT EXISTS (
           SELECT 1 FROM pg_catalog.pg_index x
           WHERE x.indrelid IN (SELECT oid FROM part)
             AND (x.indisexclusion OR x.indisunique AND NOT ARRAY(
                      SELECT a.attname::text FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid = x.indrelid
                        AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])) @> $3::text[]))
    OR EXISTS (
           SELECT 1 FROM pg_catalog.pg_constraint k
           WHERE k.contype = 'f' AND k.conrelid IN (SELECT oid FROM part)
             AND k.confrelid IN (SELECT oid FROM part))
    OR EXISTS (
           SELECT 1 FROM pg_catalog.pg_trigger t
           WHERE t.tgrelid IN (SELECT oid FROM part) AND NOT t.tgisinternal AND t.tgenabled <> 'D')
    OR EXISTS (
           SELECT 1 FROM pg_catalog.pg_rewrite r
           WHERE r.ev_class IN (SELECT oid FROM part) AND r.ev_type <> '1')
    OR EXISTS (
           SELECT 1 FROM pg_catalog.pg_attribute a
           JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
           WHERE a.attrelid IN (SELECT oid FROM target) AND a.attname = ANY ($3::text[])
             AND NOT c.collisdeterministic)
