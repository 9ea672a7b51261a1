//! What the collection holds of anime, characters and episodes, read from Postgres.
//!
//! | type | payload | text |
//! |---|---|---|
//! | anime | `anime_id`, title, type, status, rating, season, year, nsfw, `episode_count`, genres, tags | titles, synonyms; synopsis |
//! | character | name, `name_native`, gender, `anime_ids` | names, aliases; description |
//! | episode | `anime_id`, title, `episode_number`, `season_number`, filler, recap | titles; synopsis |
//!
//! Every payload has `entity_type`; fields without a value are left out. A merged character has no
//! point. Relations in a payload are copies to filter by; Postgres is where they are.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::qdrant::Payload;
use crate::qdrant::embed::Text;

/// What kind of thing a point stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntityType {
    /// A title.
    Anime,
    /// A character, whichever anime it is in.
    Character,
    /// An episode of one anime.
    Episode,
}

impl EntityType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Anime, Self::Character, Self::Episode];

    /// As in `entity_type` of outbox and payload.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anime => "anime",
            Self::Character => "character",
            Self::Episode => "episode",
        }
    }

    /// The type of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn query(self) -> &'static str {
        match self {
            Self::Anime => include_str!("../sql/points/anime.sql"),
            Self::Character => include_str!("../sql/points/character.sql"),
            Self::Episode => include_str!("../sql/points/episode.sql"),
        }
    }
}

/// One thing that has, or had, a point; its id is the point's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entity {
    /// Its kind.
    pub entity_type: EntityType,
    /// Its id in Postgres, and the point's.
    pub id: Uuid,
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entity_type.name(), self.id)
    }
}

impl Entity {
    /// From the names the outbox has.
    pub fn of_row(entity_type: &str, id: &str) -> Result<Self> {
        let named = EntityType::of_name(entity_type).zip(Uuid::parse_str(id).ok());
        let (entity_type, id) = named.ok_or_else(|| {
            Error::new(ErrorKind::StoreFailed, format!("{entity_type} {id} is no entity"))
        })?;
        Ok(Self { entity_type, id })
    }
}

/// A point's content as Postgres has it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// Whose.
    pub entity: Entity,
    /// Ids and fields to filter by.
    pub payload: Payload,
    /// What is embedded.
    pub text: Text,
}

/// The content of those entities that have a point, in any order.
pub async fn load(conn: &mut PgConnection, entities: &[Entity]) -> Result<Vec<Derived>> {
    let mut derived = Vec::with_capacity(entities.len());
    for entity_type in EntityType::ALL {
        let ids: Vec<String> = entities
            .iter()
            .filter(|entity| entity.entity_type == entity_type)
            .map(|entity| entity.id.to_string())
            .collect();
        if ids.is_empty() {
            continue;
        }
        let rows: Vec<(String, String, String, String)> =
            sqlx::query_as(entity_type.query()).bind(&ids).fetch_all(&mut *conn).await?;
        for (id, payload, names, rest) in rows {
            let entity = Entity::of_row(entity_type.name(), &id)?;
            let payload = serde_json::from_str(&payload).map_err(|error| {
                Error::new(ErrorKind::Bug, format!("{entity}: its payload is no object"))
                    .because(error)
            })?;
            let text = if rest.is_empty() { names } else { format!("{names}\n\n{rest}") };
            derived.push(Derived { entity, payload, text: Text { id: entity.id.into(), text } });
        }
    }
    Ok(derived)
}

/// Entities with a point in the order of their ids, after `after`, none after `until`.
pub async fn window(
    conn: &mut PgConnection,
    after: Option<Uuid>,
    until: Uuid,
    limit: u32,
) -> Result<Vec<Entity>> {
    let rows: Vec<(String, String)> = sqlx::query_as(include_str!("../sql/points/window.sql"))
        .bind(after.map(|id| id.to_string()))
        .bind(until.to_string())
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|(entity_type, id)| Entity::of_row(entity_type, id)).collect()
}
