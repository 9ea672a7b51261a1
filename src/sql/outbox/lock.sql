-- Those of the entities $1 (types), $2 (ids) that nobody works on, locked until the transaction
-- ends. The lock is of the point: an id is one point whatever the type.
SELECT e.entity_type, e.id
FROM unnest($1::text[], $2::text[]) AS e (entity_type, id)
WHERE pg_try_advisory_xact_lock(hashtextextended('toolkit.qdrant.point.' || e.id, 0))
