-- $1 pack, $2 stream, then one array per column.
INSERT INTO toolkit.capture_held AS h (pack, stream, source, kind, place, output, fields, identity,
    reason, detail, judged)
SELECT DISTINCT ON (e.source, e.kind, e.place)
    $1, $2, e.source, e.kind, e.place, e.output, e.fields, e.identity::jsonb, e.reason, e.detail,
    e.judged
FROM unnest($3::text[], $4::text[], $5::text[], $6::int[], $7::bytea[], $8::text[], $9::text[],
            $10::text[], $11::boolean[])
     AS e (source, kind, place, output, fields, identity, reason, detail, judged)
ON CONFLICT (pack, stream, source, kind, place) DO UPDATE
SET tried_at = now(), reason = EXCLUDED.reason, detail = EXCLUDED.detail, judged = EXCLUDED.judged,
    identity = EXCLUDED.identity, fields = EXCLUDED.fields
