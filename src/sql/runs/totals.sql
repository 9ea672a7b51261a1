-- Rejects and ledger entries of a run, and how many records a second were committed in the last
-- minute in which any were. $1 run.
SELECT (SELECT count(*) FROM toolkit.reject WHERE run_id = $1::uuid) AS rejects,
    (SELECT count(*) FROM toolkit.reject WHERE run_id = $1::uuid AND state = 'open') AS open_rejects,
    (SELECT count(*) FROM toolkit.held_row WHERE run_id = $1::uuid) AS held_rows,
    (SELECT coalesce(jsonb_object_agg(g.rule, g.entries), '{}')::text
     FROM (SELECT rule, count(*) AS entries FROM toolkit.ledger WHERE run_id = $1::uuid
           GROUP BY rule) g) AS ledger,
    (SELECT sum(c.rows_read)::float8
            / greatest(extract(epoch FROM max(c.committed_at) - min(c.committed_at)), 1)::float8
     FROM toolkit.chunk c
     WHERE c.run_id = $1::uuid AND c.committed_at >= (
         SELECT max(n.committed_at) - interval '1 minute' FROM toolkit.chunk n
         WHERE n.run_id = $1::uuid)) AS rate
