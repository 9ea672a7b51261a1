-- One line per reject.
SELECT format('%s %s, %s: %s', stream, locator, coalesce(column_name, 'record'),
              left(detail, 110))
FROM toolkit.reject
ORDER BY stream, id
