-- Numbers that must have neither gap nor duplicate, however many writers ask at once.

-- The scene's row is locked until the caller's transaction ends, so the next caller sees the
-- version that this one used, or none if it was rolled back.
CREATE FUNCTION webtoon.allocate_version(scene uuid, artifact_type text) RETURNS integer
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM webtoon.scenes WHERE scene_id = scene FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no scene %', scene USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN 1 + coalesce((SELECT max(version) FROM webtoon.artifacts
                          WHERE scene_id = scene AND type = artifact_type), 0);
END
$$;
COMMENT ON FUNCTION webtoon.allocate_version(uuid, text) IS
    'The next version of a scene''s artifact type; use it in the transaction that inserts the artifact.';

CREATE FUNCTION webtoon.add_artifact(
    scene uuid, artifact_type text, payload jsonb,
    parent uuid DEFAULT NULL, author text DEFAULT NULL
) RETURNS webtoon.artifacts
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO webtoon.artifacts (artifact_id, scene_id, type, version, parent_id, payload, created_by)
    VALUES (gen_random_uuid(), scene, artifact_type,
            webtoon.allocate_version(scene, artifact_type), parent, payload, author)
    RETURNING *
$$;
COMMENT ON FUNCTION webtoon.add_artifact(uuid, text, jsonb, uuid, text) IS
    'Inserts an artifact under the next free version of its scene and type.';

-- 1 -> CHAR_A, 26 -> CHAR_Z, 27 -> CHAR_AA: digits without a zero, as spreadsheets count columns.
CREATE FUNCTION webtoon.canonical_code(number integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rest integer := number;
    letters text := '';
BEGIN
    IF number < 1 THEN
        RAISE EXCEPTION 'canonical codes count from 1, not from %', number
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE rest > 0 LOOP
        letters := chr(65 + (rest - 1) % 26) || letters;
        rest := (rest - 1) / 26;
    END LOOP;
    RETURN 'CHAR_' || letters;
END
$$;

-- The inverse; NULL for what is no canonical code.
CREATE FUNCTION webtoon.canonical_number(code text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN code ~ '^CHAR_[A-Z]{1,6}$' THEN
        (SELECT sum((ascii(letter) - 64) * 26 ^ (length(code) - 5 - place))::integer
           FROM regexp_split_to_table(substr(code, 6), '') WITH ORDINALITY AS l (letter, place))
    END
$$;

CREATE FUNCTION webtoon.allocate_canonical_code(project uuid) RETURNS text
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM webtoon.projects WHERE project_id = project FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no project %', project USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN webtoon.canonical_code(1 + coalesce(
        (SELECT max(webtoon.canonical_number(canonical_code)) FROM webtoon.characters
          WHERE project_id = project), 0));
END
$$;
COMMENT ON FUNCTION webtoon.allocate_canonical_code(uuid) IS
    'The project''s next canonical code; use it in the transaction that inserts the character.';
