-- Proposals that nobody has refused and that are not open already; older ones about the same field
-- give way, and one that is open already is about what is stored now. Arrays: entity type, entity,
-- anime, field, reason, before, after, digest, run.
WITH heard AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::text[], $9::text[])
        AS r (entity_type, entity_id, anime_id, field, reason, before, after, proposal, run_id)
), renewed AS (
    UPDATE review_queue q
    SET before = h.before::jsonb
    FROM heard h
    WHERE q.state = 'open' AND q.entity_type = h.entity_type
      AND q.entity_id = h.entity_id::uuid AND q.field = h.field AND q.proposal = h.proposal
      AND q.before IS DISTINCT FROM h.before::jsonb
), said AS (
    SELECT * FROM heard r
    WHERE NOT EXISTS (
        SELECT FROM review_queue q
        WHERE q.entity_type = r.entity_type AND q.entity_id = r.entity_id::uuid
          AND q.field = r.field AND q.proposal = r.proposal AND q.state IN ('open', 'rejected'))
), gone AS (
    UPDATE review_queue q
    SET state = 'superseded', decided_at = now(), decided_by = 'a newer artifact'
    FROM said s
    WHERE q.state = 'open' AND q.entity_type = s.entity_type
      AND q.entity_id = s.entity_id::uuid AND q.field = s.field
    RETURNING 1
)
INSERT INTO review_queue (entity_type, entity_id, anime_id, field, reason, before, after, proposal,
                          run_id)
SELECT entity_type, entity_id::uuid, anime_id::uuid, field, reason, before::jsonb, after::jsonb,
       proposal, run_id::bigint
FROM said
-- Sees what `gone` has done.
WHERE (SELECT count(*) FROM gone) >= 0
