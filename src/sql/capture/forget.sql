-- $1 pack, $2 source.
WITH cursor AS (
    DELETE FROM toolkit.capture_cursor WHERE pack = $1 AND source = $2
), applied AS (
    DELETE FROM toolkit.capture_applied WHERE pack = $1 AND source = $2
)
DELETE FROM toolkit.capture_held WHERE pack = $1 AND source = $2
