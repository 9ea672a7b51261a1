-- Edges that found their target, and those that have it already, with the one that stays: the
-- resolved one, else the oldest. Names in braces are the table's.
DROP TABLE IF EXISTS ranked_edge;
CREATE TEMPORARY TABLE ranked_edge ON COMMIT DROP AS
WITH involved AS (
    SELECT e.id, e.{from} AS f, e.relation_type AS r, t.target, false AS was_resolved,
           e.{p}_title AS title, e.{p}_urls AS urls, {format} AS format, e.source_relation_type,
           e.meta
    FROM {table} e JOIN found_target t ON t.id = e.id
    UNION ALL
    SELECT e.id, e.{from}, e.relation_type, e.{to}, true, e.{p}_title, e.{p}_urls, {format},
           e.source_relation_type, e.meta
    FROM (SELECT DISTINCT e.{from} AS f, e.relation_type AS r, t.target
          FROM {table} e JOIN found_target t ON t.id = e.id) AS k
    JOIN {table} e ON e.{from} = k.f AND e.relation_type = k.r AND e.{to} = k.target
)
SELECT *, first_value(id) OVER w AS keeper, row_number() OVER w AS rank
FROM involved
WINDOW w AS (PARTITION BY f, r, target ORDER BY was_resolved DESC, id);
ANALYZE ranked_edge
