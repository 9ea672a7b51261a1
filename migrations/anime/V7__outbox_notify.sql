-- Whoever listens on qdrant_outbox learns at the commit that there is something to do. One statement,
-- one call; of equal notifications in a transaction Postgres sends one.
CREATE FUNCTION qdrant_outbox_notify() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    NOTIFY qdrant_outbox;
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_notify AFTER INSERT ON qdrant_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION qdrant_outbox_notify();
