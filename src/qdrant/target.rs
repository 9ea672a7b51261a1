//! Which collections a write goes to, and the collection as it should be.

use std::sync::Arc;

use uuid::Uuid;

use super::point::{Filter, Payload, Point, PointId, With};
use super::schema::{Distance, Index, Schema, VectorKind};
use super::store::VectorStore;
use crate::config::{Settings, VectorSetting};
use crate::error::{Error, ErrorKind, Result};

/// Payload fields that are filtered, and their types.
const INDEXES: [(&str, Index); 11] = [
    ("entity_type", Index::Keyword),
    ("embedder", Index::Keyword),
    ("anime_id", Index::Keyword),
    ("anime_ids", Index::Keyword),
    ("type", Index::Keyword),
    ("status", Index::Keyword),
    ("rating", Index::Keyword),
    ("genres", Index::Keyword),
    ("tags", Index::Keyword),
    ("year", Index::Integer),
    ("nsfw", Index::Bool),
];

/// Hexadecimal digits that tell the collections behind an alias apart.
const RANDOM_DIGITS: usize = 12;

/// The alias of what a rebuild fills; it exists while one runs, or was killed.
pub fn next_alias(name: &str) -> String {
    format!("{name}--next")
}

/// The collection that follows Postgres.
#[derive(Clone)]
pub struct Target {
    store: Arc<dyn VectorStore>,
    name: String,
    text_vector: String,
    schema: Schema,
}

impl Target {
    /// The collection the settings describe, in `store`; nothing is made or looked at yet.
    pub fn new(store: Arc<dyn VectorStore>, settings: &Settings) -> Result<Self> {
        let wanted = &settings.qdrant;
        let mut schema = Schema::default();
        for (name, setting) in &wanted.vectors {
            schema.vectors.insert(name.clone(), kind_of(name, setting)?);
        }
        let dimension = u64::from(settings.embedding.dimension);
        let text = schema
            .vectors
            .entry(wanted.text_vector.clone())
            .or_insert(VectorKind::Dense { size: dimension, distance: Distance::Cosine });
        if !matches!(*text, VectorKind::Dense { size, .. } if size == dimension) {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "qdrant.vectors.{} must be one dense vector of embedding.dimension, {dimension}",
                    wanted.text_vector
                ),
            )
            .advice("set both to the size of the model's vectors"));
        }
        schema.indexes =
            INDEXES.iter().map(|(field, index)| ((*field).to_owned(), *index)).collect();
        Ok(Self {
            store,
            name: wanted.collection.clone(),
            text_vector: wanted.text_vector.clone(),
            schema,
        })
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn VectorStore> {
        &self.store
    }

    /// Alias or name of the collection.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The vector that embeddings go to.
    pub fn text_vector(&self) -> &str {
        &self.text_vector
    }

    /// What the collection must be made of.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Makes the collection, behind an alias, where there is none, and its missing indexes; refuses
    /// one made of something else, with the differences. Two at once would each make one, and what
    /// the first has written would be gone: [`super::outbox::ensure`] lets one at a time.
    pub async fn ensure(&self) -> Result<()> {
        let Some(found) = self.store.schema(&self.name).await? else {
            // An adoption that was killed between the removal and the alias had verified this one.
            let next = next_alias(&self.name);
            if let Some(verified) = self.store.alias(&next).await? {
                self.store.set_alias(&self.name, &verified).await?;
                return self.store.remove_alias(&next).await;
            }
            let collection = self.fresh_name();
            self.store.create(&collection, &self.schema).await?;
            return self.store.set_alias(&self.name, &collection).await;
        };
        self.check(&self.name, &found)?;
        self.store.ensure_indexes(&self.name, &self.schema).await
    }

    /// Whether there is a collection with points, or a verified one that is about to bear the name;
    /// refuses one made of something else.
    pub(crate) async fn has_points(&self) -> Result<bool> {
        let Some(found) = self.store.schema(&self.name).await? else {
            return Ok(self.store.alias(&next_alias(&self.name)).await?.is_some());
        };
        self.check(&self.name, &found)?;
        let all = Filter::default();
        let page = self.store.scroll(&self.name, &all, None, 1, With::ID).await?;
        Ok(!page.points.is_empty())
    }

    /// Refuses a collection that is not there, or made of something else; changes nothing.
    pub async fn check_there(&self) -> Result<()> {
        let Some(found) = self.store.schema(&self.name).await? else {
            let place = self.store.describe();
            let detail = format!("{place} has no collection {:?}", self.name);
            return Err(Error::new(ErrorKind::StoreFailed, detail).advice(
                "`toolkit outbox drain` makes and fills it; `toolkit outbox rebuild` fills it anew",
            ));
        };
        self.check(&self.name, &found)
    }

    fn check(&self, name: &str, found: &Schema) -> Result<()> {
        let differences = self.schema.differences(found);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StoreFailed,
            format!(
                "the collection {name:?} of {} is not as configured: {}",
                self.store.describe(),
                differences.join("; ")
            ),
        )
        .advice(
            "set [qdrant.vectors] and embedding.dimension in toolkit.toml to what it has, or \
             `toolkit outbox rebuild` makes one as configured and switches to it",
        ))
    }

    /// A name for a new collection behind the alias.
    pub(crate) fn fresh_name(&self) -> String {
        let random = Uuid::new_v4().simple().to_string();
        format!("{}--{}", self.name, &random[..RANDOM_DIGITS])
    }

    /// Whether a collection's name is one that [`Target::fresh_name`] gives: others that begin
    /// alike are somebody else's.
    pub(crate) fn is_fresh_name(&self, collection: &str) -> bool {
        let random = collection.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix("--"));
        random.is_some_and(|random| {
            let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
            random.len() == RANDOM_DIGITS && random.bytes().all(is_digit)
        })
    }

    /// Names of the collections a write goes to now: the one that is searched, and the one that a
    /// rebuild fills. Ask again for every batch, after its entities were locked.
    pub async fn writes_to(&self) -> Result<Vec<String>> {
        // Both in one answer: a switch between two would hide one of the collections.
        let mut aliases = self.store.aliases().await?;
        let mut names = vec![aliases.remove(&self.name).unwrap_or_else(|| self.name.clone())];
        if let Some(next) = aliases.remove(&next_alias(&self.name))
            && !names.contains(&next)
        {
            names.push(next);
        }
        Ok(names)
    }

    /// Writes a batch to one collection: whole points, payloads of points that are there, and
    /// removals.
    pub(crate) async fn write(&self, collection: &str, batch: Batch) -> Result<()> {
        self.store.upsert(collection, batch.points).await?;
        self.store.set_payloads(collection, batch.payloads).await?;
        self.store.delete(collection, &batch.gone).await
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) points: Vec<Point>,
    pub(crate) payloads: Vec<(PointId, Payload)>,
    pub(crate) gone: Vec<PointId>,
}

fn kind_of(name: &str, setting: &VectorSetting) -> Result<VectorKind> {
    let refuse = |what: &str| {
        Err(Error::new(ErrorKind::Config, format!("qdrant.vectors.{name} {what}")).advice(
            "write { size = 768, distance = \"cosine\" }, with multi = true, or \
                     { sparse = true }",
        ))
    };
    if setting.sparse {
        if setting.size.is_some() || setting.multi || setting.distance.is_some() {
            return refuse("is sparse, which has neither size nor distance");
        }
        return Ok(VectorKind::Sparse);
    }
    let Some(size) = setting.size.filter(|size| (1..=65_536).contains(size)) else {
        return refuse("needs a size of 1 to 65536");
    };
    let distance = match setting.distance.as_deref().unwrap_or("cosine") {
        "cosine" => Distance::Cosine,
        "dot" => Distance::Dot,
        "euclid" => Distance::Euclid,
        "manhattan" => Distance::Manhattan,
        _ => return refuse("has an unknown distance; known are cosine, dot, euclid, manhattan"),
    };
    Ok(if setting.multi {
        VectorKind::Multi { size, distance }
    } else {
        VectorKind::Dense { size, distance }
    })
}
