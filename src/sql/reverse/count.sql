-- Adds a step's counts: $1 pack, $2 changes, $3 inserted, $4 updated, $5 deleted, $6 unchanged.
INSERT INTO toolkit.reverse_state AS known
    (pack, changes, inserted, updated, deleted, unchanged, applied_at)
VALUES ($1, $2, $3, $4, $5, $6, now())
ON CONFLICT (pack) DO UPDATE SET
    changes = known.changes + EXCLUDED.changes,
    inserted = known.inserted + EXCLUDED.inserted,
    updated = known.updated + EXCLUDED.updated,
    deleted = known.deleted + EXCLUDED.deleted,
    unchanged = known.unchanged + EXCLUDED.unchanged,
    applied_at = EXCLUDED.applied_at
