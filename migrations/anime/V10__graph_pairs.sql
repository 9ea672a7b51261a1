-- Whether one node leads to another, asked by both: the search for a path asks hubs that way, which
-- it could not afford to read.
CREATE INDEX graph_edge_pair_idx ON graph_edge (from_id, to_id, edge_type);
