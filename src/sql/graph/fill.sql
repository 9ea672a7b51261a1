-- The whole projection, anew, in the order in which it is read.
INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type, origin)
SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected
 ORDER BY from_id, edge_type COLLATE "C", to_id
