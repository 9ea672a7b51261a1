-- One line per stream and rule.
SELECT format('%s x %s in stream %s', count(*), rule, stream)
FROM toolkit.ledger
GROUP BY stream, rule
ORDER BY stream, rule
