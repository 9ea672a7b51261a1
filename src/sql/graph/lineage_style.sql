-- The presets that preset $1 inherits from, nearest first: at most $2 steps and $3 rows.
WITH RECURSIVE chain AS (
    SELECT 0 AS depth, p.preset_id, p.parent_id, p.name, p.style_config
      FROM webtoon.style_presets p WHERE p.preset_id = $1::text::uuid
    UNION ALL
    SELECT c.depth + 1, p.preset_id, p.parent_id, p.name, p.style_config
      FROM chain c JOIN webtoon.style_presets p ON p.preset_id = c.parent_id
     WHERE c.depth < $2
) CYCLE preset_id SET is_cycle USING trail
SELECT c.depth, CASE c.depth WHEN 0 THEN 'is' ELSE 'inherits_from' END AS relation,
       'style_preset' AS kind, c.preset_id::text AS id,
       lag(c.preset_id) OVER (ORDER BY c.depth)::text AS parent, c.name AS label,
       CASE WHEN c.is_cycle THEN 'cycle'
            WHEN jsonb_typeof(c.style_config) <> 'object' THEN 'style_config is no object'
            WHEN c.depth >= $2 AND c.parent_id IS NOT NULL THEN 'depth limit'
            WHEN c.parent_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM webtoon.style_presets p WHERE p.preset_id = c.parent_id)
                THEN 'parent is missing' END AS problem
  FROM (SELECT depth, preset_id, parent_id, name, style_config, is_cycle
          FROM chain LIMIT $3) AS c ORDER BY c.depth
