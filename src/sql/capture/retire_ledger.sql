-- Decisions about whole rows of records that were looked at again are history.
-- $1 pack, $2 stream, $3 sources, $4 locators.
UPDATE toolkit.ledger AS l SET rule = l.rule || '_before'
FROM unnest($3::text[], $4::text[]) AS p (source, locator)
WHERE l.pack = $1 AND l.stream = $2 AND l.source = p.source AND l.locator = p.locator
  AND l.rule IN ('superseded', 'superseded_tie', 'superseded_in_source', 'target_wins',
                 'identical_duplicate', 'orphan')
