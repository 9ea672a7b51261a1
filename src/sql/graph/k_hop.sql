-- What lies within $2 hops of node $1, nearest first: at most $3 nodes, looking at the first $4
-- edges of a node, of whatever type; k_hop_typed.sql takes some types.
--
-- Breadth-first search, a row of the recursion per node looked at: its queue holds every node
-- once, in the order of discovery, so no circle is possible, and it ends as soon as there are
-- more than $3, or $3 and an edge was cut off, so that more is known to be there. The fan-out is cut inside, by the primary key's order: a hub costs what a leaf
-- does. `depths` runs beside `queue`.
WITH RECURSIVE walk AS (
    SELECT 0 AS head, ARRAY[$1::uuid] AS queue, ARRAY[0] AS depths, ARRAY[]::uuid[] AS found,
           ARRAY[]::text[] COLLATE "C" AS entity_types,
           ARRAY[]::text[] COLLATE "C" AS edge_types,
           false AS is_cut
    UNION ALL
    SELECT w.head + 1, w.queue || step.found,
           w.depths || array_fill(w.depths[w.head + 1] + 1, ARRAY[cardinality(step.found)]),
           step.found, step.entity_types, step.edge_types, w.is_cut OR step.is_cut
      FROM walk w
     CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(e.to_id) FILTER (WHERE e.is_new), '{}') AS found,
               coalesce(array_agg(e.to_type COLLATE "C") FILTER (WHERE e.is_new), '{}') AS entity_types,
               coalesce(array_agg(e.edge_type COLLATE "C") FILTER (WHERE e.is_new), '{}') AS edge_types,
               coalesce(max(e.place) > $4, false) AS is_cut
          FROM (
            SELECT n.*, n.place <= $4 AND n.to_id <> ALL (w.queue) AND
                        row_number() OVER (PARTITION BY n.to_id ORDER BY n.place) = 1 AS is_new
              FROM (
                SELECT f.*, row_number() OVER (ORDER BY f.edge_type, f.to_id) AS place
                  FROM (
                    SELECT DISTINCT ON (g.edge_type, g.to_id) g.edge_type, g.to_id, g.to_type
                      FROM graph_edge g WHERE g.from_id = w.queue[w.head + 1]
                     ORDER BY g.edge_type, g.to_id LIMIT $4 + 1
                  ) AS f
              ) AS n
             ORDER BY n.place
          ) AS e
     ) AS step
     WHERE w.head < cardinality(w.queue)
       AND w.depths[w.head + 1] < $2
       AND cardinality(w.queue) <= $3 + (NOT w.is_cut)::int
)
SELECT queue[head] AS parent, depths[head] + 1 AS depth, found, entity_types, edge_types,
       ARRAY[]::uuid[] AS vias, is_cut
  FROM walk WHERE head > 0 AND (is_cut OR found <> '{}') ORDER BY head
