-- How many ledger entries there are of each kind. $1 pack, $2 stream, $3 rule, $4 of rejects only;
-- NULL: all.
SELECT pack, stream, rule, column_name, count(*) AS count
FROM toolkit.ledger
WHERE ($1::text IS NULL OR pack = $1) AND ($2::text IS NULL OR stream = $2)
  AND ($3::text IS NULL OR rule = $3) AND ($4::text IS NULL OR true)
GROUP BY pack, stream, rule, column_name
ORDER BY pack, stream, count(*) DESC, rule, column_name
