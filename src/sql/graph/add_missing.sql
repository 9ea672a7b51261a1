-- Adds the edges that junction rows give and that are not there.
INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type, origin)
SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected
EXCEPT SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge
