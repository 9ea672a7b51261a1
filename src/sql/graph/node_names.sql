-- What people call the nodes $1.
SELECT id, title AS name FROM anime WHERE id = ANY ($1::uuid[])
UNION ALL SELECT id, name FROM character WHERE id = ANY ($1::uuid[])
UNION ALL SELECT id, title FROM episode WHERE id = ANY ($1::uuid[])
UNION ALL SELECT id, title FROM manga WHERE id = ANY ($1::uuid[])
UNION ALL SELECT id, title FROM original_work WHERE id = ANY ($1::uuid[])
UNION ALL SELECT id, name FROM company WHERE id = ANY ($1::uuid[])
