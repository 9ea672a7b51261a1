-- $1 pack, $2 schema, $3 table, $4 column, $5 cut-off, $6 how long rows are kept, $7 rows,
-- $8 partition that was dropped, $9 run
WITH added AS (
    UPDATE toolkit.retention_removed SET rows = rows + $7
    WHERE run_id = $9::uuid AND pack = $1 AND table_schema = $2 AND table_name = $3
      AND column_name = $4 AND partition IS NULL AND $8::text IS NULL
    RETURNING id
)
INSERT INTO toolkit.retention_removed
       (pack, table_schema, table_name, column_name, cutoff, keep, rows, partition, run_id)
SELECT $1, $2, $3, $4, $5::timestamptz, $6, $7, $8, $9::uuid
WHERE NOT EXISTS (SELECT FROM added)
