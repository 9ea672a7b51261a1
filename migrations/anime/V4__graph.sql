-- The projection all graph queries read: each resolved junction row as two edges, there and back.
-- Kept by triggers of the junction tables, so in the transaction of their rows, whoever writes
-- them; anybody may compare it with graph_edge_expected, or rebuild it from there.
--
-- Edges of the relation vocabulary bear its names; the reverse of an inverse pair its inverse, of
-- a symmetric type its own name, of a directed type TYPE_OF. Edges of other junctions are in lower
-- case: has_character / appears_in, studio / studio_of, producer / producer_of,
-- licensor / licensor_of, adapted_from / adapted_into.

CREATE TABLE graph_edge (
    from_id   uuid NOT NULL,
    from_type text NOT NULL,
    to_id     uuid NOT NULL,
    to_type   text NOT NULL,
    edge_type text NOT NULL,
    -- The junction's table; with a trailing < where the edge is the reverse of its row.
    origin    text NOT NULL DEFAULT '',
    -- Covers a step of a traversal: what leaves a node, by type, needs this index alone.
    CONSTRAINT graph_edge_pkey PRIMARY KEY (from_id, edge_type, to_id, origin)
        INCLUDE (from_type, to_type)
);
COMMENT ON TABLE graph_edge IS 'Projection of the junction tables, both directions; can be rebuilt.';

CREATE FUNCTION graph_inverse(edge_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE edge_type
        WHEN 'SEQUEL' THEN 'PREQUEL' WHEN 'PREQUEL' THEN 'SEQUEL'
        WHEN 'SIDE_STORY' THEN 'PARENT_STORY' WHEN 'PARENT_STORY' THEN 'SIDE_STORY'
        WHEN 'SUMMARY' THEN 'FULL_STORY' WHEN 'FULL_STORY' THEN 'SUMMARY'
        WHEN 'ADAPTATION' THEN 'ADAPTATION_OF' WHEN 'CHARACTER' THEN 'CHARACTER_OF'
        WHEN 'SPIN_OFF' THEN 'SPIN_OFF_OF' WHEN 'CONDENSED_VERSION' THEN 'CONDENSED_VERSION_OF'
        WHEN 'RECAP' THEN 'RECAP_OF' WHEN 'UNKNOWN' THEN 'UNKNOWN_OF'
        WHEN 'has_character' THEN 'appears_in' WHEN 'studio' THEN 'studio_of'
        WHEN 'producer' THEN 'producer_of' WHEN 'licensor' THEN 'licensor_of'
        WHEN 'adapted_from' THEN 'adapted_into'
        -- ALTERNATIVE and its like, CROSSOVER, OTHER and all that are symmetric.
        ELSE edge_type END
$$;

-- Each junction's rows as edges forward; the reverse follows from graph_inverse.
CREATE VIEW graph_edge_forward AS
SELECT from_anime_id AS from_id, 'anime' AS from_type, to_anime_id AS to_id, 'anime' AS to_type,
       relation_type::text AS edge_type, 'anime_relation' AS origin
FROM anime_relation WHERE to_anime_id IS NOT NULL
UNION ALL
SELECT anime_id, 'anime', manga_id, 'manga',
       CASE relation_type WHEN 'ADAPTATION' THEN 'adapted_from' ELSE relation_type END,
       'anime_manga_relation'
FROM anime_manga_relation WHERE manga_id IS NOT NULL
UNION ALL
SELECT anime_id, 'anime', work_id, 'original_work',
       CASE relation_type WHEN 'ADAPTATION' THEN 'adapted_from' ELSE relation_type END,
       'anime_work_relation'
FROM anime_work_relation WHERE work_id IS NOT NULL
UNION ALL
SELECT anime_id, 'anime', character_id, 'character', 'has_character', 'anime_character'
FROM anime_character
UNION ALL
SELECT anime_id, 'anime', company_id, 'company', role, 'anime_company'
FROM anime_company;

CREATE VIEW graph_edge_expected AS
SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_forward
UNION ALL
SELECT to_id, to_type, from_id, from_type, graph_inverse(edge_type), origin || '<'
FROM graph_edge_forward;
COMMENT ON VIEW graph_edge_expected IS 'What graph_edge must hold, from the junction tables.';

-- One function for all junctions: the rows of the statement come as added and removed.
CREATE FUNCTION graph_edge_keep() RETURNS trigger LANGUAGE plpgsql
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
        EXECUTE 'WITH come AS MATERIALIZED (' || format(edges, 'added') || ')
            INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type, origin)
            SELECT f, ''anime'', t, $2, e, $1 FROM come
            UNION ALL SELECT t, $2, f, ''anime'', graph_inverse(e), $1 || ''<'' FROM come
            ON CONFLICT DO NOTHING'
            USING TG_TABLE_NAME::text, shape[3];
    END IF;
    RETURN NULL;
END
$$;
DO $$
DECLARE junction text;
BEGIN
    FOREACH junction IN ARRAY ARRAY['anime_relation', 'anime_manga_relation', 'anime_work_relation',
                                    'anime_character', 'anime_company'] LOOP
        EXECUTE format('CREATE TRIGGER graph_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS
            added FOR EACH STATEMENT EXECUTE FUNCTION graph_edge_keep()', junction);
        EXECUTE format('CREATE TRIGGER graph_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS
            removed NEW TABLE AS added FOR EACH STATEMENT
            EXECUTE FUNCTION graph_edge_keep()', junction);
        EXECUTE format('CREATE TRIGGER graph_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS
            removed FOR EACH STATEMENT EXECUTE FUNCTION graph_edge_keep()', junction);
    END LOOP;
END
$$;
