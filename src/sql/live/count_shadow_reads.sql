-- $1 pack, $2 name, $3 reads, $4 mismatches
INSERT INTO toolkit.shadow_read (pack, name, hour, reads, mismatches)
VALUES ($1, $2, date_trunc('hour', now()), $3, $4)
ON CONFLICT (pack, name, hour) DO UPDATE
    SET reads = shadow_read.reads + excluded.reads,
        mismatches = shadow_read.mismatches + excluded.mismatches
