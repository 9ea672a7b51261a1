-- How many rejects there are of each kind. $1 pack, $2 stream, $3 reason, $4 state; NULL: all.
SELECT pack, stream, reason, state, count(*) AS count
FROM toolkit.reject
WHERE ($1::text IS NULL OR pack = $1) AND ($2::text IS NULL OR stream = $2)
  AND ($3::text IS NULL OR reason = $3) AND ($4::text IS NULL OR state = $4)
GROUP BY pack, stream, reason, state
ORDER BY pack, stream, count(*) DESC, reason, state
