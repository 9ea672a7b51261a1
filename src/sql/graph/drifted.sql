-- The first $1 edges that are missing (false) or too many (true).
WITH missing AS (
    SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected
    EXCEPT SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge
), extra AS (
    SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge
    EXCEPT SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected
)
SELECT is_extra, split_part(rtrim(origin, '<'), ':', 1) AS junction,
       from_type || ' ' || from_id AS from_node, edge_type, to_type || ' ' || to_id AS to_node,
       origin
FROM (
    SELECT false AS is_extra, missing.* FROM missing
    UNION ALL
    SELECT true, extra.* FROM extra
) AS drift
ORDER BY is_extra, origin, from_id, edge_type, to_id
LIMIT $1
