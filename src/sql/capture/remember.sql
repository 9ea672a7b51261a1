-- $1 pack, $2 source, $3 installation, $4 path, $5 tables, $6 what may have been missed.
INSERT INTO toolkit.capture_cursor AS c (pack, source, installation, path, tables, gap, gap_at)
VALUES ($1, $2, $3::uuid, $4, $5::jsonb, $6, CASE WHEN $6 IS NOT NULL THEN now() END)
ON CONFLICT (pack, source) DO UPDATE
SET installation = EXCLUDED.installation, path = EXCLUDED.path, tables = EXCLUDED.tables,
    halted = NULL, last_error = NULL,
    position = CASE WHEN c.installation = EXCLUDED.installation THEN c.position ELSE 0 END,
    captured = CASE WHEN c.installation = EXCLUDED.installation THEN c.captured ELSE 0 END,
    mark = CASE WHEN c.installation = EXCLUDED.installation THEN c.mark END,
    enabled_at = CASE WHEN c.installation = EXCLUDED.installation THEN c.enabled_at ELSE now() END,
    gap = coalesce(EXCLUDED.gap, c.gap), gap_at = coalesce(EXCLUDED.gap_at, c.gap_at)
