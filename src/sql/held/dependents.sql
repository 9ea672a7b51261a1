-- Tables whose rows cannot be there without rows of a table, itself among them: foreign keys lead
-- from them to it, or to another of them. $1 schema, $2 table.
WITH RECURSIVE tree AS (
    SELECT t.oid
    FROM pg_catalog.pg_class t
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = $1 AND t.relname = $2
    UNION
    SELECT c.conrelid
    FROM tree
    JOIN pg_catalog.pg_constraint c ON c.confrelid = tree.oid
    WHERE c.contype = 'f' AND c.conparentid = 0
)
SELECT n.nspname::text, t.relname::text
FROM tree
JOIN pg_catalog.pg_class t ON t.oid = tree.oid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
