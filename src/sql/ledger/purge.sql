-- Removes rejects and counts them by state. $1 pack, $2 states, $3 least age in seconds or NULL.
WITH gone AS (
    DELETE FROM toolkit.reject
    WHERE pack = $1 AND state = ANY($2)
      AND ($3::bigint IS NULL OR created_at < now() - make_interval(secs => $3::bigint::double precision))
    RETURNING state
)
SELECT state, count(*) FROM gone GROUP BY state ORDER BY state
