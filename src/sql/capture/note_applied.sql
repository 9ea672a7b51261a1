-- $1 pack, $2 stream, $3 sources, $4 places, $5 position.
INSERT INTO toolkit.capture_applied AS a (pack, stream, source, place, position)
SELECT DISTINCT $1, $2, p.source, p.place, $5::bigint
FROM unnest($3::text[], $4::text[]) AS p (source, place)
ON CONFLICT (pack, stream, place, source) DO UPDATE
SET position = greatest(a.position, EXCLUDED.position)
