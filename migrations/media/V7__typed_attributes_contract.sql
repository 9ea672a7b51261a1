-- Typed attributes, contract: readers leave the JSON. It stays in media.media, whole, because it is
-- what an import is compared with; what goes is the second way to read it.
CREATE OR REPLACE VIEW media.typed_media AS
    SELECT m.id, m.external_id, m.media_type, m.title,
           b.isbn, b.publisher, b.page_count, b.edition, g.platforms, g.engine, g.playtime_hours,
           a.narrator, a.duration_minutes, a.label, e.venue, e.capacity, e.event_type
      FROM media.media AS m
      LEFT JOIN media.book_attributes AS b ON b.media_id = m.id
      LEFT JOIN media.game_attributes AS g ON g.media_id = m.id
      LEFT JOIN media.audio_attributes AS a ON a.media_id = m.id
      LEFT JOIN media.event_attributes AS e ON e.media_id = m.id;
COMMENT ON VIEW media.typed_media IS 'Media with the typed attributes of their type.';
