-- The projection as the bounded graph queries read it: names of both directions as the documents
-- have them, episodes, characters under the id they were merged into, and an order that does not
-- depend on the database's collation.
--
-- Lower-case edges and their inverses: features / appears_in, studio | producer | licensor /
-- produced, adapted_from / was_adapted_to, has_episode / episode_of.

-- Traversals follow the primary key; answers must not depend on a collation, and bytes are cheaper.
ALTER TABLE graph_edge ALTER COLUMN edge_type TYPE text COLLATE "C",
                       ALTER COLUMN origin TYPE text COLLATE "C";
-- Who made anime at a company, by role; produced leads there from the company whatever the role.
CREATE INDEX graph_edge_maker_idx ON graph_edge (to_id, edge_type, from_id) INCLUDE (from_type)
    WHERE edge_type IN ('studio', 'producer', 'licensor');
COMMENT ON COLUMN graph_edge.origin IS
    'Table of the junction row, then :role or :id-before-merging where rows would otherwise give '
    'the same edge, then < for the reverse.';

CREATE OR REPLACE FUNCTION graph_inverse(edge_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE edge_type
        WHEN 'SEQUEL' THEN 'PREQUEL' WHEN 'PREQUEL' THEN 'SEQUEL'
        WHEN 'SIDE_STORY' THEN 'PARENT_STORY' WHEN 'PARENT_STORY' THEN 'SIDE_STORY'
        WHEN 'SUMMARY' THEN 'FULL_STORY' WHEN 'FULL_STORY' THEN 'SUMMARY'
        WHEN 'ADAPTATION' THEN 'ADAPTATION_OF' WHEN 'CHARACTER' THEN 'CHARACTER_OF'
        WHEN 'SPIN_OFF' THEN 'SPIN_OFF_OF' WHEN 'CONDENSED_VERSION' THEN 'CONDENSED_VERSION_OF'
        WHEN 'RECAP' THEN 'RECAP_OF' WHEN 'UNKNOWN' THEN 'UNKNOWN_OF'
        WHEN 'features' THEN 'appears_in' WHEN 'has_episode' THEN 'episode_of'
        WHEN 'studio' THEN 'produced' WHEN 'producer' THEN 'produced'
        WHEN 'licensor' THEN 'produced' WHEN 'adapted_from' THEN 'was_adapted_to'
        -- ALTERNATIVE and its like, CROSSOVER, OTHER and all that are symmetric.
        ELSE edge_type END
$$;

CREATE FUNCTION graph_work_edge(relation_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE relation_type WHEN 'ADAPTATION' THEN 'adapted_from' ELSE relation_type END
$$;

-- toolkit: allow ban-drop-view because it is made again below, in this transaction
DROP VIEW graph_edge_expected;
-- toolkit: allow ban-drop-view because it is made again below, in this transaction
DROP VIEW graph_edge_forward;
CREATE VIEW graph_edge_forward AS
SELECT from_anime_id AS from_id, 'anime' AS from_type, to_anime_id AS to_id, 'anime' AS to_type,
       relation_type::text AS edge_type, 'anime_relation' AS origin
FROM anime_relation WHERE to_anime_id IS NOT NULL
UNION ALL
SELECT anime_id, 'anime', work_id, work_type, graph_work_edge(relation_type),
       CASE work_type WHEN 'manga' THEN 'anime_manga_relation' ELSE 'anime_work_relation' END
FROM anime_original_work_relation WHERE work_id IS NOT NULL
UNION ALL
SELECT a.anime_id, 'anime',
       CASE WHEN r.from_id IS NULL THEN a.character_id ELSE canonical_character(r.to_id) END,
       'character', 'features',
       'anime_character' || coalesce(':' || r.from_id, '')
FROM anime_character a LEFT JOIN character_redirect r ON r.from_id = a.character_id
UNION ALL
SELECT anime_id, 'anime', company_id, 'company', role, 'anime_company:' || role
FROM anime_company
UNION ALL
SELECT anime_id, 'anime', id, 'episode', 'has_episode', 'episode'
FROM episode;

CREATE VIEW graph_edge_expected AS
SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_forward
UNION ALL
SELECT to_id, to_type, from_id, from_type, graph_inverse(edge_type), origin || '<'
FROM graph_edge_forward;
COMMENT ON VIEW graph_edge_expected IS 'What graph_edge must hold, from the junction tables.';

-- One function for all junctions: the rows of the statement come as added and removed. A row that
-- an UPDATE left where it was keeps its edges untouched.
CREATE OR REPLACE FUNCTION graph_edge_keep() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    -- Of each junction: from, to, type of to, edge type, origin, and what it is joined with.
    shape text[] := CASE TG_TABLE_NAME
        WHEN 'anime_relation' THEN ARRAY['j.from_anime_id', 'j.to_anime_id', 'anime',
            'j.relation_type::text', '''anime_relation''', '']
        WHEN 'anime_manga_relation' THEN ARRAY['j.anime_id', 'j.manga_id', 'manga',
            'graph_work_edge(j.relation_type)', '''anime_manga_relation''', '']
        WHEN 'anime_work_relation' THEN ARRAY['j.anime_id', 'j.work_id', 'original_work',
            'graph_work_edge(j.relation_type)', '''anime_work_relation''', '']
        WHEN 'anime_character' THEN ARRAY['j.anime_id',
            'CASE WHEN r.from_id IS NULL THEN j.character_id ELSE canonical_character(r.to_id) END',
            'character', '''features''', '''anime_character'' || coalesce('':'' || r.from_id, '''')',
            'LEFT JOIN character_redirect r ON r.from_id = j.character_id']
        WHEN 'anime_company' THEN ARRAY['j.anime_id', 'j.company_id', 'company', 'j.role',
            '''anime_company:'' || j.role', '']
        WHEN 'episode' THEN
            ARRAY['j.anime_id', 'j.id', 'episode', '''has_episode''', '''episode''', '']
    END;
    edges text := format('SELECT %s AS f, %s AS t, %s AS e, %s AS o FROM %%I j %s
                          WHERE %s IS NOT NULL',
                         shape[1], shape[2], shape[4], shape[5], shape[6], shape[2]);
    gone text := CASE TG_OP
        WHEN 'UPDATE' THEN format(edges, 'removed') || ' EXCEPT ' || format(edges, 'added')
        WHEN 'DELETE' THEN format(edges, 'removed') END;
    come text := CASE TG_OP
        WHEN 'UPDATE' THEN format(edges, 'added') || ' EXCEPT ' || format(edges, 'removed')
        WHEN 'INSERT' THEN format(edges, 'added') END;
BEGIN
    IF gone IS NOT NULL THEN
        EXECUTE 'WITH gone AS MATERIALIZED (' || gone || ')
            DELETE FROM graph_edge g USING (
                SELECT f, e, t, o FROM gone
                UNION ALL SELECT t, graph_inverse(e), f, o || ''<'' FROM gone) AS d
            WHERE g.from_id = d.f AND g.edge_type = d.e AND g.to_id = d.t AND g.origin = d.o';
    END IF;
    IF come IS NOT NULL THEN
        EXECUTE 'WITH come AS MATERIALIZED (' || come || ')
            INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type, origin)
            SELECT f, ''anime'', t, $1, e, o FROM come
            UNION ALL SELECT t, $1, f, ''anime'', graph_inverse(e), o || ''<'' FROM come
            ON CONFLICT DO NOTHING' USING shape[3];
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER graph_insert AFTER INSERT ON episode REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION graph_edge_keep();
CREATE TRIGGER graph_update AFTER UPDATE ON episode
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION graph_edge_keep();
CREATE TRIGGER graph_delete AFTER DELETE ON episode REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION graph_edge_keep();

-- An emptied junction leaves no edge.
CREATE FUNCTION graph_edge_empty() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM graph_edge
     WHERE split_part(rtrim(origin, '<'), ':', 1) = TG_TABLE_NAME;
    RETURN NULL;
END
$$;

-- A merged character's edges go to the one it was merged into, and come back with it.
CREATE FUNCTION graph_edge_redirect() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    target uuid;
    moved uuid[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Until now it stood for itself: all edges at its id move, also those it took over.
        target := canonical_character(NEW.to_id);
        UPDATE graph_edge g
           SET to_id = target,
               origin = CASE WHEN g.origin LIKE '%:%' THEN g.origin ELSE g.origin || ':' || NEW.from_id END
          FROM (SELECT DISTINCT to_id FROM graph_edge
                 WHERE from_id = NEW.from_id AND edge_type = 'appears_in') AS a
         WHERE g.from_id = a.to_id AND g.edge_type = 'features' AND g.to_id = NEW.from_id;
        UPDATE graph_edge g
           SET from_id = target,
               origin = CASE WHEN g.origin LIKE '%:%' THEN g.origin
                             ELSE rtrim(g.origin, '<') || ':' || NEW.from_id
                                  || CASE WHEN g.origin LIKE '%<' THEN '<' ELSE '' END END
         WHERE g.from_id = NEW.from_id AND g.edge_type = 'appears_in';
        RETURN NULL;
    END IF;
    WITH RECURSIVE merged(id) AS (
        SELECT OLD.from_id
        UNION
        SELECT r.from_id FROM merged m JOIN character_redirect r ON r.to_id = m.id
    )
    SELECT array_agg(id) INTO moved FROM merged;
    DELETE FROM graph_edge g USING anime_character j, graph_edge f
     WHERE j.character_id = ANY (moved)
       AND f.from_id = j.anime_id AND f.edge_type = 'features'
       AND (f.origin = 'anime_character:' || j.character_id
            OR f.origin = 'anime_character' AND f.to_id = j.character_id)
       AND ((g.from_id, g.edge_type, g.to_id, g.origin)
                = (f.from_id, f.edge_type, f.to_id, f.origin)
            OR (g.from_id, g.edge_type, g.to_id, g.origin)
                = (f.to_id, 'appears_in', f.from_id, f.origin || '<'));
    INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type, origin)
    WITH edges AS (
        SELECT j.anime_id AS f, canonical_character(j.character_id) AS t,
               'anime_character' || coalesce(':' || r.from_id, '') AS o
          FROM anime_character j LEFT JOIN character_redirect r ON r.from_id = j.character_id
         WHERE j.character_id = ANY (moved)
    )
    SELECT f, 'anime', t, 'character', 'features', o FROM edges
    UNION ALL
    SELECT t, 'character', f, 'anime', 'appears_in', o || '<' FROM edges
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER graph_redirect AFTER INSERT OR UPDATE OR DELETE ON character_redirect
    FOR EACH ROW EXECUTE FUNCTION graph_edge_redirect();

DO $$
DECLARE junction text;
BEGIN
    FOREACH junction IN ARRAY ARRAY['anime_relation', 'anime_manga_relation', 'anime_work_relation',
                                    'anime_character', 'anime_company', 'episode'] LOOP
        EXECUTE format('CREATE TRIGGER graph_truncate AFTER TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION graph_edge_empty()', junction);
    END LOOP;
END
$$;

TRUNCATE graph_edge;
-- As the junctions refuse it: nothing is related to itself.
ALTER TABLE graph_edge ADD CONSTRAINT graph_edge_self_check CHECK (from_id <> to_id);
INSERT INTO graph_edge (from_id, from_type, to_id, to_type, edge_type, origin)
SELECT from_id, from_type, to_id, to_type, edge_type, origin FROM graph_edge_expected;
