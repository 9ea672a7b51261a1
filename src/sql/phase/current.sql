-- $1 pack
SELECT phase, reads, generation,
       to_char(entered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS entered_at,
       extract(epoch FROM clock_timestamp() - entered_at)::float8 AS seconds_in_phase
FROM toolkit.phase
WHERE pack = $1
