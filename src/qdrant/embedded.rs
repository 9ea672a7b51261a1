//! Qdrant's own engine in this process, under `<state folder>/qdrant`.
//!
//! ```text
//! lock                     held by the one process that has it open
//! collections/<name>/      one shard: segments, write-ahead log, configuration
//! aliases/<alias>          the name of a collection
//! ```
//!
//! Search is exact: segments are never given an HNSW index, which pays only above the sizes this
//! is for. The engine writes a log that it never reads again, so nothing but a flush makes writes
//! durable, and the log is trimmed here.

mod convert;
mod shard;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use nix::fcntl::{Flock, FlockArg};
use qdrant_edge::{EdgeShard, OperationResult};

use self::shard::{Shard, Tried};
use super::point::{Filter, Payload, Point, PointId, Scored, Vector, With};
use super::schema::Schema;
use super::store::{Page, VectorStore};
use crate::error::{Error, ErrorKind, Result};
use crate::whole_file::write_whole;

/// Folder of the store under the state folder.
const FOLDER: &str = "qdrant";

/// The engine over one folder. Only one process has it open; clones of an [`Arc`] share it.
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    shards: Mutex<HashMap<String, Arc<Shard>>>,
    /// Held while aliases change, and while all are read: together they are as they were at one
    /// moment.
    aliases: Mutex<()>,
    // After the shards: they flush when they go.
    _lock: Flock<fs::File>,
}

impl Embedded {
    /// Opens the store under `state_dir`, making it where there is none.
    ///
    /// Fails with [`ErrorKind::Busy`] while another process has it open.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let root = state_dir.join(FOLDER);
        for folder in ["collections", "aliases"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(|error| {
                Error::new(ErrorKind::Io, format!("{} cannot be made", folder.display()))
                    .because(error)
                    .advice(ELSEWHERE)
            })?;
        }
        let lock = lock(&root)?;
        sweep(&root.join("collections"));
        let inner =
            Inner { root, shards: Mutex::default(), aliases: Mutex::default(), _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does blocking work off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let folder = self.inner.root.join("collections");
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|error| {
            Error::new(ErrorKind::Bug, "Qdrant's engine panicked; the message is above")
                .because(error)
                .advice(format!(
                    "what was flushed is kept; {}; else please report it with that message",
                    shard::damaged(&folder)
                ))
        })?
    }

    /// Works on the shard a collection's or alias's name stands for.
    async fn on<T: Send + 'static>(
        &self,
        collection: &str,
        work: impl FnOnce(&EdgeShard) -> OperationResult<T> + Send + 'static,
    ) -> Result<T> {
        let name = collection.to_owned();
        self.blocking(move |inner| inner.on(&name, work)?.ok_or_else(|| no_collection(&name))).await
    }
}

const ELSEWHERE: &str =
    "this user must be able to write there; --state-dir (TOOLKIT_STATE_DIR) names another folder";

/// Takes the folder's lock, or says who has it.
fn lock(root: &Path) -> Result<Flock<fs::File>> {
    let path = root.join("lock");
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("{} cannot be opened", path.display()))
            .because(error)
            .advice(ELSEWHERE)
    };
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
    match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // Only a help for whoever finds it taken.
            lock.set_len(0).map_err(failed)?;
            write!(lock, "{}", std::process::id()).map_err(failed)?;
            Ok(lock)
        }
        Err((mut file, _)) => {
            let mut holder = String::new();
            // The holder may be writing it just now.
            let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
            let holder = if holder.is_empty() { String::new() } else { format!(" ({holder})") };
            Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "another process{holder} has the embedded Qdrant at {} open",
                    root.display()
                ),
            )
            .advice(
                "only one process can: wait until it ends, or give both a server with \
                 --qdrant-url",
            ))
        }
    }
}

/// Removes what a killed process left half made or half removed.
fn sweep(collections: &Path) {
    let Ok(entries) = fs::read_dir(collections) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            // What stays is swept the next time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Names become folders: those that could leave theirs are refused, and ones that start with a
/// dot, which are half made.
fn check_name(name: &str) -> Result<()> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(is_fit) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{name:?} cannot name a collection of the embedded Qdrant"),
        )
        .advice("use letters, digits, '-', '_' and '.', at most 200, not starting with '.'"));
    }
    Ok(())
}

impl Inner {
    fn collection_path(&self, name: &str) -> PathBuf {
        self.root.join("collections").join(name)
    }

    fn alias_path(&self, alias: &str) -> PathBuf {
        self.root.join("aliases").join(alias)
    }

    fn alias(&self, alias: &str) -> Result<Option<String>> {
        check_name(alias)?;
        match fs::read_to_string(self.alias_path(alias)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(ErrorKind::Io, format!("alias {alias:?}")).because(error)),
        }
    }

    fn aliases(&self) -> Result<BTreeMap<String, String>> {
        let _still = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut aliases = BTreeMap::new();
        for entry in fs::read_dir(self.root.join("aliases"))? {
            let alias = entry?.file_name().to_string_lossy().into_owned();
            // What is no name is half written; what is gone by now was removed.
            if check_name(&alias).is_ok()
                && let Some(collection) = self.alias(&alias)?
            {
                aliases.insert(alias, collection);
            }
        }
        Ok(aliases)
    }

    /// The shard a name or alias stands for; None: no such collection.
    fn find(&self, name: &str) -> Result<Option<Arc<Shard>>> {
        check_name(name)?;
        let mut alias = self.alias(name)?;
        loop {
            let collection = alias.as_deref().unwrap_or(name);
            let path = self.collection_path(collection);
            let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(shard) = shards.get(collection) {
                return Ok(Some(Arc::clone(shard)));
            }
            if path.is_dir() {
                let shard = Arc::new(Shard::new(path));
                shards.insert(collection.to_owned(), Arc::clone(&shard));
                return Ok(Some(shard));
            }
            drop(shards);
            // It may have been switched to another one meanwhile, and the old one removed.
            let now = self.alias(name)?;
            if now == alias {
                return Ok(None);
            }
            alias = now;
        }
    }

    /// Works on the shard a name or alias stands for by then; None: no such collection.
    fn on<T>(
        &self,
        name: &str,
        mut work: impl FnOnce(&EdgeShard) -> OperationResult<T>,
    ) -> Result<Option<T>> {
        while let Some(shard) = self.find(name)? {
            match shard.read(work) {
                Tried::Done(done) => return done.map(Some),
                Tried::Gone(back) => work = back,
            }
        }
        Ok(None)
    }

    fn flush(&self, name: &str) -> Result<()> {
        while let Some(shard) = self.find(name)? {
            if shard.flush()? {
                return Ok(());
            }
        }
        Err(no_collection(name))
    }

    fn create(&self, name: &str, schema: &Schema) -> Result<()> {
        check_name(name)?;
        let path = self.collection_path(name);
        if path.exists() || self.alias(name)?.is_some() {
            let detail = format!("there is a collection or alias {name:?} already");
            return Err(Error::new(ErrorKind::StoreFailed, detail));
        }
        // Whole or not at all: made beside, flushed, renamed.
        let making = path.with_file_name(format!(".making-{name}"));
        let failed = |error: std::io::Error| {
            let detail = format!("the collection's folder {} cannot be made", path.display());
            Error::new(ErrorKind::Io, detail).because(error).advice(ELSEWHERE)
        };
        if making.exists() {
            fs::remove_dir_all(&making).map_err(failed)?;
        }
        fs::create_dir_all(&making).map_err(failed)?;
        shard::make(&making, schema)?;
        fs::rename(&making, &path).map_err(failed)?;
        sync_folder(&path).map_err(failed)
    }

    fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let path = self.collection_path(name);
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = shards.remove(name) {
            shard.give_up();
        }
        if !path.exists() {
            return Ok(());
        }
        let going = path.with_file_name(format!(".going-{name}-{}", uuid::Uuid::new_v4().simple()));
        fs::rename(&path, &going).and_then(|()| fs::remove_dir_all(&going)).map_err(|error| {
            Error::new(ErrorKind::Io, format!("{} cannot be removed", path.display()))
                .because(error)
        })
    }

    fn collections(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join("collections"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

fn no_collection(name: &str) -> Error {
    Error::new(ErrorKind::StoreFailed, format!("Qdrant has no collection {name:?}"))
        .advice("`toolkit outbox drain` makes it; `toolkit outbox rebuild` fills it anew")
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(parent).and_then(|folder| folder.sync_all())
}

#[async_trait]
impl VectorStore for Embedded {
    fn describe(&self) -> String {
        format!("embedded Qdrant at {}", self.inner.root.display())
    }

    async fn schema(&self, collection: &str) -> Result<Option<Schema>> {
        let name = collection.to_owned();
        self.blocking(move |inner| inner.on(&name, |shard| Ok(convert::schema(shard)))).await
    }

    async fn collections(&self) -> Result<Vec<String>> {
        self.blocking(Inner::collections).await
    }

    async fn create(&self, collection: &str, schema: &Schema) -> Result<()> {
        let (name, schema) = (collection.to_owned(), schema.clone());
        self.blocking(move |inner| inner.create(&name, &schema)).await
    }

    async fn ensure_indexes(&self, collection: &str, schema: &Schema) -> Result<()> {
        let schema = schema.clone();
        self.on(collection, move |shard| shard::ensure_indexes(shard, &schema)).await
    }

    async fn remove(&self, collection: &str) -> Result<()> {
        let name = collection.to_owned();
        self.blocking(move |inner| inner.remove(&name)).await
    }

    async fn aliases(&self) -> Result<BTreeMap<String, String>> {
        self.blocking(Inner::aliases).await
    }

    async fn alias(&self, alias: &str) -> Result<Option<String>> {
        let alias = alias.to_owned();
        self.blocking(move |inner| inner.alias(&alias)).await
    }

    async fn set_alias(&self, alias: &str, collection: &str) -> Result<()> {
        let (alias, name) = (alias.to_owned(), collection.to_owned());
        self.blocking(move |inner| {
            check_name(&alias)?;
            let _alone = inner.aliases.lock().unwrap_or_else(PoisonError::into_inner);
            if !inner.collection_path(&name).is_dir() {
                return Err(no_collection(&name));
            }
            if inner.collection_path(&alias).exists() {
                let detail = format!("{alias:?} is a collection and cannot be an alias");
                return Err(Error::new(ErrorKind::StoreFailed, detail));
            }
            write_whole(&inner.alias_path(&alias), name.as_bytes())
        })
        .await
    }

    async fn remove_alias(&self, alias: &str) -> Result<()> {
        let alias = alias.to_owned();
        self.blocking(move |inner| {
            check_name(&alias)?;
            let _alone = inner.aliases.lock().unwrap_or_else(PoisonError::into_inner);
            match fs::remove_file(inner.alias_path(&alias)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn upsert(&self, collection: &str, points: Vec<Point>) -> Result<()> {
        if points.is_empty() {
            return Ok(());
        }
        self.on(collection, move |shard| shard.update(convert::upsert(points)?)).await
    }

    async fn set_payloads(
        &self,
        collection: &str,
        payloads: Vec<(PointId, Payload)>,
    ) -> Result<()> {
        self.on(collection, move |shard| {
            payloads
                .into_iter()
                .try_for_each(|(id, payload)| shard.update(convert::overwrite(id, payload)))
        })
        .await
    }

    async fn delete(&self, collection: &str, ids: &[PointId]) -> Result<()> {
        let ids = ids.to_vec();
        self.on(collection, move |shard| shard.update(convert::delete(&ids))).await
    }

    async fn retrieve(&self, collection: &str, ids: &[PointId], with: With) -> Result<Vec<Point>> {
        let ids: Vec<_> = ids.iter().copied().map(convert::id).collect();
        self.on(collection, move |shard| {
            let found = shard.retrieve(&ids, Some(with.payload.into()), Some(with.vectors.into()));
            Ok(found?.into_iter().map(convert::point).collect())
        })
        .await
    }

    async fn scroll(
        &self,
        collection: &str,
        filter: &Filter,
        from: Option<PointId>,
        limit: u32,
        with: With,
    ) -> Result<Page> {
        let filter = convert::filter(filter)?;
        let request = convert::scroll(filter, from, limit, with);
        self.on(collection, move |shard| {
            let (points, next) = shard.scroll(request)?;
            let points = points.into_iter().map(convert::point).collect();
            Ok(Page { points, next: next.map(convert::id_back) })
        })
        .await
    }

    async fn count(&self, collection: &str, filter: &Filter) -> Result<u64> {
        let filter = convert::filter(filter)?;
        let request = qdrant_edge::CountRequest { filter, exact: true };
        self.on(collection, move |shard| Ok(shard.count(request)? as u64)).await
    }

    async fn search(
        &self,
        collection: &str,
        using: &str,
        vector: Vector,
        filter: &Filter,
        limit: u32,
    ) -> Result<Vec<Scored>> {
        let filter = convert::filter(filter)?;
        let using = using.to_owned();
        self.on(collection, move |shard| {
            let request = convert::search(using, vector, filter, limit)?;
            Ok(shard.search(request)?.into_iter().map(convert::scored).collect())
        })
        .await
    }

    fn searches_all(&self) -> bool {
        true
    }

    async fn flush(&self, collection: &str) -> Result<()> {
        let name = collection.to_owned();
        self.blocking(move |inner| inner.flush(&name)).await
    }
}
