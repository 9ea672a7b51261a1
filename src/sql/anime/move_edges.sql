-- Unresolved edges whose reference is only known as the other kind of original work move there;
-- where one with that reference stands already, their urls are united.
WITH gone AS (
    DELETE FROM {here} e
    USING {there_xref} x
    WHERE e.{here_id} IS NULL AND x.source = e.{h}_ref_source
      AND x.external_id = e.{h}_ref_external_id
      AND NOT EXISTS (SELECT FROM {here_xref} o
                      WHERE o.source = x.source AND o.external_id = x.external_id)
    RETURNING e.*
)
INSERT INTO {there} AS t (anime_id, relation_type, {t}_ref_source, {t}_ref_external_id, {t}_title,
                          {t}_urls, source_relation_type, meta)
SELECT anime_id, relation_type, {h}_ref_source, {h}_ref_external_id, {h}_title, {h}_urls,
       source_relation_type, meta
FROM gone
ON CONFLICT (anime_id, relation_type, {t}_ref_source, {t}_ref_external_id)
    WHERE {there_id} IS NULL AND {t}_ref_source IS NOT NULL AND {t}_ref_external_id IS NOT NULL
DO UPDATE SET {t}_urls = ARRAY(SELECT DISTINCT url FROM unnest(t.{t}_urls || EXCLUDED.{t}_urls) AS url),
    meta = EXCLUDED.meta || t.meta
