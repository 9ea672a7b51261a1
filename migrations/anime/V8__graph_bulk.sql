-- Edges of a bulk of new rows are new themselves: they are inserted plainly, in the order of the
-- index, and only where one is there already once more with a look at each. A plain insert costs half
-- of one that may conflict; ingestion spends most of its time here. Else the function is V4's.
CREATE OR REPLACE FUNCTION graph_edge_keep() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    -- Of each junction: from, to, type of to, edge type.
    shape text[] := CASE TG_TABLE_NAME
        WHEN 'anime_relation' THEN
            ARRAY['from_anime_id', 'to_anime_id', 'anime', 'relation_type::text']
        WHEN 'anime_manga_relation' THEN ARRAY['anime_id', 'manga_id', 'manga',
            'CASE relation_type WHEN ''ADAPTATION'' THEN ''adapted_from'' ELSE relation_type END']
        WHEN 'anime_work_relation' THEN ARRAY['anime_id', 'work_id', 'original_work',
            'CASE relation_type WHEN ''ADAPTATION'' THEN ''adapted_from'' ELSE relation_type END']
        WHEN 'anime_character' THEN
            ARRAY['anime_id', 'character_id', 'character', '''has_character''']
        WHEN 'anime_company' THEN ARRAY['anime_id', 'company_id', 'company', 'role']
    END;
    edges text := format('SELECT %s AS f, %s AS t, %s AS e FROM %%s WHERE %s IS NOT NULL',
                         shape[1], shape[2], shape[4], shape[2]);
    come text;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        EXECUTE 'WITH gone AS MATERIALIZED (' || format(edges, 'removed') || ')
            DELETE FROM graph_edge g USING (
                SELECT f, e, t, $1 AS o FROM gone
                UNION ALL SELECT t, graph_inverse(e), f, $1 || ''<'' FROM gone) AS d
            WHERE g.from_id = d.f AND g.edge_type = d.e AND g.to_id = d.t AND g.origin = d.o'
            USING TG_TABLE_NAME::text;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        come := 'WITH come AS MATERIALIZED (' || format(edges, 'added') || ')
            INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type, origin)
            SELECT f, ''anime'', t, $2, e, $1 FROM come
            UNION ALL SELECT t, $2, f, ''anime'', graph_inverse(e), $1 || ''<'' FROM come
            ORDER BY 1, 5, 3';
        BEGIN
            EXECUTE come USING TG_TABLE_NAME::text, shape[3];
        EXCEPTION WHEN unique_violation THEN
            EXECUTE come || ' ON CONFLICT DO NOTHING' USING TG_TABLE_NAME::text, shape[3];
        END;
    END IF;
    RETURN NULL;
END
$$;
