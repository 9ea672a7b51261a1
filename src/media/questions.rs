//! What readers ask of the media tracker, by name.

use crate::query::{Argument, Kind, Question};

const fn required(name: &'static str) -> Argument {
    Argument { name, kind: Kind::Text, required: true }
}

const fn optional(name: &'static str) -> Argument {
    Argument { name, kind: Kind::Text, required: false }
}

/// Questions about one user read one partition of what users track.
pub const QUESTIONS: &[Question] = &[
    Question {
        name: "user-media",
        about: "what a user tracks, newest change first; of one status, or of all",
        arguments: &[required("email"), optional("status")],
        sql: "SELECT m.external_id, m.title, u.status, u.progress, u.rating, u.started_at,
                     u.completed_at, u.updated_at
                FROM interaction.user_media AS u JOIN media.media AS m ON m.id = u.media_id
               WHERE u.user_id = (SELECT id FROM users.users WHERE email = $1::text)
                 AND ($2::text IS NULL OR u.status = $2::text)
               ORDER BY u.updated_at DESC, m.external_id",
    },
    Question {
        name: "user-summary",
        about: "how many media a user has in each status, and how they are rated",
        arguments: &[required("email")],
        sql: "SELECT status, count(*) AS media, round(avg(rating), 2) AS mean_rating,
                     count(rating) AS rated
                FROM interaction.user_media
               WHERE user_id = (SELECT id FROM users.users WHERE email = $1::text)
               GROUP BY status ORDER BY status",
    },
    Question {
        name: "user-lists",
        about: "the lists of a user, with their ids",
        arguments: &[required("email")],
        sql: "SELECT l.name, l.list_type, l.is_public,
                     (SELECT count(*) FROM interaction.list_items AS i WHERE i.list_id = l.id)
                         AS items,
                     l.filter_definition, l.id
                FROM interaction.user_lists AS l
               WHERE l.user_id = (SELECT id FROM users.users WHERE email = $1::text)
               ORDER BY l.name, l.id",
    },
    Question {
        name: "smart-list",
        about: "the media of a list: of a smart one what its filter_definition matches now",
        arguments: &[Argument { name: "list", kind: Kind::Uuid, required: true }],
        sql: "",
    },
    Question {
        name: "related",
        about: "media that are related to one, in either direction",
        arguments: &[required("external_id")],
        sql:
            "SELECT r.relation_type, other.external_id, other.title, r.direction, r.weight, r.notes
                FROM media.media AS m
                CROSS JOIN LATERAL (
                    SELECT relation_type, related_media_id AS id, 'to' AS direction, weight, notes
                      FROM media.relationships WHERE media_id = m.id
                     UNION ALL
                    SELECT relation_type, media_id, 'from', weight, notes
                      FROM media.relationships WHERE related_media_id = m.id) AS r
                JOIN media.media AS other ON other.id = r.id
               WHERE m.external_id = $1::text
               ORDER BY r.relation_type, r.direction, other.external_id",
    },
    Question {
        name: "external-links",
        about: "the keys other sites have for a medium",
        arguments: &[required("external_id")],
        sql: "SELECT l.source_name, l.external_key FROM media.external_links AS l
                JOIN media.media AS m ON m.id = l.media_id WHERE m.external_id = $1::text
               ORDER BY l.source_name, l.external_key",
    },
    Question {
        name: "class",
        about: "media of a class and all classes below it, such as media.anime",
        arguments: &[required("class")],
        sql: "SELECT external_id, media_class::text AS media_class, title, release_date
                FROM media.media WHERE media_class <@ $1::text::ltree
               ORDER BY media_class, title, external_id",
    },
    Question {
        name: "typed-attribute-drift",
        about: "media whose typed attributes are not what their JSON says",
        arguments: &[],
        sql: "SELECT * FROM media.typed_attribute_drift ORDER BY typed_table, media_id",
    },
];
