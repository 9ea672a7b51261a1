-- Of each junction: edges that there should be, edges there are, those missing and those too many.
SELECT split_part(rtrim(origin, '<'), ':', 1) AS junction,
       count(*) FILTER (WHERE is_expected) AS expected,
       count(*) FILTER (WHERE is_there) AS there,
       count(*) FILTER (WHERE NOT is_there) AS missing,
       count(*) FILTER (WHERE NOT is_expected) AS extra
FROM (
    SELECT origin, bool_or(is_expected) AS is_expected, bool_or(NOT is_expected) AS is_there
    FROM (
        SELECT from_id, from_type, to_id, to_type, edge_type, origin, true AS is_expected
        FROM graph_edge_expected
        UNION ALL
        SELECT from_id, from_type, to_id, to_type, edge_type, origin, false FROM graph_edge
    ) AS both_sides
    GROUP BY from_id, from_type, to_id, to_type, edge_type, origin
) AS edge
GROUP BY junction
ORDER BY junction
