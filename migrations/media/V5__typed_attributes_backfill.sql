-- Typed attributes, backfill: rows that were there before the triggers. A row that a trigger wrote
-- meanwhile is newer and stays.
INSERT INTO media.book_attributes SELECT * FROM media.book_attributes_expected
    ON CONFLICT (media_id) DO NOTHING;
INSERT INTO media.game_attributes SELECT * FROM media.game_attributes_expected
    ON CONFLICT (media_id) DO NOTHING;
INSERT INTO media.audio_attributes SELECT * FROM media.audio_attributes_expected
    ON CONFLICT (media_id) DO NOTHING;
INSERT INTO media.event_attributes SELECT * FROM media.event_attributes_expected
    ON CONFLICT (media_id) DO NOTHING;
