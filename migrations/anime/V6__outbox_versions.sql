-- The newest version of an entity, settled rows included: parity and rebuild ask for it by page.
CREATE INDEX qdrant_outbox_version_idx ON qdrant_outbox (entity_id, entity_type, version);
