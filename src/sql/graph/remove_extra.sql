-- Takes away the edges that no junction row gives.
DELETE FROM graph_edge g USING (
    SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge
    EXCEPT SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected
) AS d
 WHERE g.from_id = d.from_id AND g.edge_type = d.edge_type AND g.to_id = d.to_id
   AND g.origin = d.origin
