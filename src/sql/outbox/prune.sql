-- Up to $2 settled rows that were settled $1 seconds ago or earlier, the newest of each entity
-- excepted: its version is what the entity's point is compared with.
DELETE FROM public.qdrant_outbox WHERE id IN (
    SELECT o.id FROM public.qdrant_outbox o
    WHERE o.processed_at <= clock_timestamp() - make_interval(secs => $1)
      AND EXISTS (
          SELECT FROM public.qdrant_outbox newer
          WHERE newer.entity_id = o.entity_id AND newer.entity_type = o.entity_type
            AND newer.version > o.version)
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
