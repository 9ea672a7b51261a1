-- Where graph_edge and the junction tables disagree: `missing` edges there should be, `extra` ones
-- there should not. Counted by junction, with one edge to look at.
WITH missing AS (
    SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected
    EXCEPT SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge
), extra AS (
    SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge
    EXCEPT SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected
), both_ways AS (
    SELECT 'missing' AS drift, missing.* FROM missing
    UNION ALL SELECT 'extra', extra.* FROM extra
)
SELECT drift, edge_type, origin_table, count(*) AS edges,
       min(from_type || ' ' || from_id || ' -> ' || to_type || ' ' || to_id) AS example
  FROM (SELECT *, split_part(rtrim(origin, '<'), ':', 1) AS origin_table FROM both_ways) AS d
 GROUP BY drift, edge_type, origin_table ORDER BY drift, origin_table, edge_type
