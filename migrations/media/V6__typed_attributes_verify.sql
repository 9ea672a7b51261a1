-- Typed attributes, verify: the migration ends here, and nothing is contracted, if a row differs.
CREATE VIEW media.typed_attribute_drift AS
    SELECT 'book_attributes' AS typed_table, media_id FROM (
        (TABLE media.book_attributes_expected EXCEPT TABLE media.book_attributes)
        UNION ALL (TABLE media.book_attributes EXCEPT TABLE media.book_attributes_expected)) AS d
    UNION SELECT 'game_attributes', media_id FROM (
        (TABLE media.game_attributes_expected EXCEPT TABLE media.game_attributes)
        UNION ALL (TABLE media.game_attributes EXCEPT TABLE media.game_attributes_expected)) AS d
    UNION SELECT 'audio_attributes', media_id FROM (
        (TABLE media.audio_attributes_expected EXCEPT TABLE media.audio_attributes)
        UNION ALL (TABLE media.audio_attributes EXCEPT TABLE media.audio_attributes_expected)) AS d
    UNION SELECT 'event_attributes', media_id FROM (
        (TABLE media.event_attributes_expected EXCEPT TABLE media.event_attributes)
        UNION ALL (TABLE media.event_attributes EXCEPT TABLE media.event_attributes_expected)) AS d;
COMMENT ON VIEW media.typed_attribute_drift IS
    'Media whose typed attributes are not what their JSON says; empty while the triggers work.';
DO $$
DECLARE
    differing bigint;
    example   text;
BEGIN
    SELECT count(*), min(typed_table || ' ' || media_id) INTO differing, example
      FROM media.typed_attribute_drift;
    IF differing > 0 THEN
        RAISE EXCEPTION '% typed attribute rows differ from their JSON, such as %',
            differing, example;
    END IF;
END
$$;
