-- What applications use of schema toolkit through the Rust API, and which rights to it a role lacks:
-- the route (ReadRouter), the hold on it (DualWriter), and what comparing reads looks at and writes
-- down (ShadowRead). The triggers that capture changes run with their owner's rights. Where these
-- tables are not there yet, nothing is listed. $1 role, $2 whether it only reads.
WITH wanted(kind, name, privilege, columns, writes) AS (VALUES
    ('SCHEMA', 'toolkit', 'USAGE', NULL::text[], false),
    ('TABLE', 'toolkit.phase', 'SELECT', NULL, false),
    ('FUNCTION', 'toolkit.hold_route(text, text)', 'EXECUTE', NULL, true),
    ('TABLE', 'toolkit.run', 'SELECT', ARRAY['pack', 'command', 'status'], false),
    ('TABLE', 'toolkit.capture_cursor', 'SELECT', ARRAY['pack', 'installation', 'position'], false),
    ('TABLE', 'toolkit.reverse_log', 'SELECT', ARRAY['pack', 'id'], false),
    ('TABLE', 'toolkit.shadow_read', 'SELECT', NULL, false),
    ('TABLE', 'toolkit.shadow_read', 'INSERT', NULL, false),
    ('TABLE', 'toolkit.shadow_read', 'UPDATE', ARRAY['reads', 'mismatches'], false),
    ('TABLE', 'toolkit.shadow_mismatch', 'INSERT', NULL, false)
), numbered AS (
    SELECT w.*, pg_catalog.row_number() OVER () AS place FROM wanted w
)
SELECT w.kind, w.name, w.privilege || coalesce(' (' || pg_catalog.array_to_string(w.columns, ', ') || ')', '')
           AS privilege,
       NOT CASE
           WHEN w.kind = 'SCHEMA' THEN pg_catalog.has_schema_privilege($1::name, w.name, w.privilege)
           WHEN w.kind = 'FUNCTION' THEN pg_catalog.has_function_privilege($1::name, w.name, w.privilege)
           WHEN w.columns IS NULL THEN pg_catalog.has_table_privilege($1::name, w.name, w.privilege)
           ELSE (SELECT pg_catalog.bool_and(
                     pg_catalog.has_column_privilege($1::name, w.name, c.name, w.privilege))
                 FROM unnest(w.columns) AS c(name)) END AS is_missing
FROM numbered w
WHERE CASE w.kind
          WHEN 'SCHEMA' THEN pg_catalog.to_regnamespace(w.name) IS NOT NULL
          WHEN 'FUNCTION' THEN pg_catalog.to_regprocedure(w.name) IS NOT NULL
          ELSE pg_catalog.to_regclass(w.name) IS NOT NULL END
  AND NOT ($2::bool AND w.writes)
ORDER BY w.place
