-- $1 pack.
SELECT (SELECT count(*) FROM toolkit.capture_held WHERE pack = $1) AS held,
       (SELECT count(*) FROM toolkit.reject WHERE pack = $1 AND state = 'open') AS open_rejects,
       (SELECT count(*) FROM toolkit.capture_file WHERE pack = $1) AS documents
