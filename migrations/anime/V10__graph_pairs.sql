-- Whether one node leads to another, asked by both: the search for a path asks hubs that way, which
-- it could not afford to read. One number stands for both ids: a third of their size, and of no
-- use to other questions, which have the primary key.
CREATE INDEX graph_edge_pair_idx
    ON graph_edge (uuid_hash_extended(from_id, uuid_hash_extended(to_id, 0)));
