-- Retention that parity knows of, and the hold on a route that a write needs.

CREATE TABLE toolkit.retention_removed (
    id           bigint GENERATED ALWAYS AS IDENTITY
                 CONSTRAINT retention_removed_pkey PRIMARY KEY,
    pack         text NOT NULL,
    table_schema text NOT NULL,
    table_name   text NOT NULL,
    column_name  text NOT NULL,
    cutoff       timestamptz NOT NULL,
    keep         text NOT NULL,
    rows         bigint NOT NULL,
    partition    text,
    run_id       uuid NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX retention_removed_table_idx
    ON toolkit.retention_removed (pack, table_schema, table_name, column_name);
COMMENT ON TABLE toolkit.retention_removed IS
    'What retention removed: rows whose column was before the cut-off. Parity leaves such rows out.';
COMMENT ON COLUMN toolkit.retention_removed.partition IS
    'The partition that was dropped whole; NULL: rows were deleted.';

-- A write in Postgres holds the route from its first statement to its commit, so that a change of
-- route waits for it. Whoever changes the route takes the same advisory lock alone, before any
-- other: waiting for it is first come, first served, where those who ask for a row FOR SHARE one
-- after the other would keep an UPDATE waiting for ever. FOR SHARE asks for UPDATE on the table,
-- which applications should not have.
CREATE FUNCTION toolkit.hold_route(wanted_pack text, wanted_route text) RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    is_wanted boolean;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('toolkit.route.' || wanted_pack, 0));
    SELECT reads = wanted_route INTO is_wanted
    FROM toolkit.phase WHERE pack = wanted_pack FOR SHARE;
    RETURN coalesce(is_wanted, wanted_route = 'sqlite');
END
$function$;
COMMENT ON FUNCTION toolkit.hold_route(text, text) IS
    'Whether the pack''s route is the wanted one; it stays so until the transaction ends.';
