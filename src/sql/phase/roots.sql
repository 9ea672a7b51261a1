-- Where a pack's sources were at its newest verification of everything. $1 pack
SELECT ARRAY(SELECT jsonb_array_elements_text(settings -> 'looked_in'))
FROM toolkit.parity_run
WHERE pack = $1 AND jsonb_typeof(settings -> 'looked_in') = 'array'
ORDER BY finished_at DESC NULLS LAST
LIMIT 1
