-- How media $1 is related, both ways: at most $2 steps and $3 rows, 50 relations of each. A row of
-- the recursion per item looked at; its queue holds each item once, so no circle is followed.
WITH RECURSIVE walk AS (
    SELECT 0 AS head, ARRAY[m.id] AS queue, ARRAY[0] AS depths, ARRAY[]::uuid[] AS found,
           ARRAY[]::text[] AS relations
      FROM media.media m WHERE m.id = $1::text::uuid
    UNION ALL
    SELECT w.head + 1, w.queue || step.found,
           w.depths || array_fill(w.depths[w.head + 1] + 1, ARRAY[cardinality(step.found)]),
           step.found, step.relations
      FROM walk w CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(e.id ORDER BY e.relation, e.id), '{}') AS found,
               coalesce(array_agg(e.relation ORDER BY e.relation, e.id), '{}') AS relations
          FROM (SELECT DISTINCT ON (n.id) n.id, n.relation
                  FROM ((SELECT r.related_media_id AS id, r.relation_type::text AS relation
                           FROM media.relationships r WHERE r.media_id = w.queue[w.head + 1]
                          ORDER BY r.related_media_id, r.relation_type LIMIT 50)
                        UNION ALL
                        (SELECT r.media_id, r.relation_type::text || ' (of it)'
                           FROM media.relationships r
                          WHERE r.related_media_id = w.queue[w.head + 1]
                          ORDER BY r.media_id, r.relation_type LIMIT 50)) AS n
                 WHERE n.id <> ALL (w.queue) ORDER BY n.id, n.relation) AS e
     ) AS step
     WHERE w.head < cardinality(w.queue) AND w.depths[w.head + 1] < $2
       AND cardinality(w.queue) < $3
)
SELECT t.depth, t.relation, 'media' AS kind, t.id::text AS id, t.parent::text AS parent,
       m.title AS label, NULL::text AS problem
  FROM (SELECT 0 AS depth, 'is' AS relation, queue[1] AS id, NULL::uuid AS parent, 0 AS head,
               0::bigint AS place
          FROM walk WHERE head = 0
        UNION ALL
        SELECT w.depths[w.head] + 1, f.relation, f.id, w.queue[w.head], w.head, f.place
          FROM walk w
         CROSS JOIN LATERAL unnest(w.found, w.relations) WITH ORDINALITY AS f(id, relation, place)
         WHERE w.head > 0) AS t
  JOIN media.media m ON m.id = t.id ORDER BY t.head, t.place LIMIT $3
