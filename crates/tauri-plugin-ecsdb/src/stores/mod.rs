//! Stores of settings: keys and JSON values, in a database of their own, each call one transaction.

mod changes;
mod import;
mod index;
mod name;

use std::path::PathBuf;
use std::sync::Arc;

use ecsdb::{Database, Entity, ErrorKind, Lsn, Ticket, View};
use ecsdb_io::sync::Mutex;
use serde_json::{Map, Value as Json};
use tauri::ipc::Channel;

use crate::error::{Error, Result};
use changes::{Change, Changes};
pub use import::Import;
use index::{Entry, Index, Known};
pub use name::StoreName;

/// How a store is loaded.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Options {
    /// Values for keys that are not there; and what [`Stores::reset`] goes back to.
    pub defaults: Option<Map<String, Json>>,
    /// Whatever is there is thrown away, and the defaults are taken. An older store's file is not taken over, then or later.
    pub create_new: bool,
    /// Defaults are only for a store that was not there.
    pub override_defaults: bool,
}

/// What loading a store did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// It was not there before.
    pub is_new: bool,
    /// What became of an older store's file of the same name.
    pub import: Import,
}

/// The application's stores. Clones are the same stores, and any thread may call them.
///
/// ```
/// use tauri_plugin_ecsdb::{Options, StoreName, Stores};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let stores = Stores::open(dir.path())?;
/// let settings = StoreName::new("settings.json")?;
/// stores.load(&settings, Options::default())?;
/// stores.set(&settings, "theme", "dark".into())?; // on stable storage when this returns
/// assert_eq!(stores.get(&settings, "theme")?, Some("dark".into()));
/// # Ok::<(), tauri_plugin_ecsdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    db: Database,
    /// Where older files of stores lie.
    dir: PathBuf,
    /// Locked from before a commit until the index says the same.
    index: Mutex<Index>,
    changes: Changes,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stores({})", self.0.dir.display())
    }
}

impl Stores {
    /// Opens the stores of an application whose data lies in `dir`. The database is `stores` in it.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Stores> {
        let dir = dir.into();
        Stores::of(Database::open(dir.join("stores"))?, dir)
    }

    fn of(db: Database, dir: PathBuf) -> Result<Stores> {
        let index = Mutex::new(Index::of(&db.view()?)?);
        Ok(Stores(Arc::new(Inner { db, dir, index, changes: Changes::default() })))
    }

    /// Makes a store, if there is none of the name, and fills in the defaults. The first time, in the same transaction, it takes over
    /// what is in the file of the name in the data directory. A store that was loaded before in this process is as it is, unless it is to
    /// be a new one.
    ///
    /// # Errors
    /// When the file cannot be read, or it cannot be made durable.
    pub fn load(&self, name: &StoreName, options: Options) -> Result<Loaded> {
        let mut index = self.0.index.lock();
        let held = index.of_store(name);
        let mut loaded = Loaded { is_new: !held.is_known, import: Import::Nothing };
        if held.defaults.is_some() && !options.create_new {
            let lsn = held.loaded;
            drop(index);
            // Whoever loaded it first may still be waiting for the disk, or have waited in vain. What else is under way is no matter of this store's.
            if self.0.db.durable_lsn() < lsn {
                self.save()?;
            }
            return Ok(loaded);
        }
        let mut values: Map<String, Json> = Map::new();
        if !held.is_known && !options.create_new {
            match import::read(&self.0.dir, name)? {
                Ok(Some(entries)) => {
                    // What was set here is the newer.
                    values.extend(entries.into_iter().filter(|(key, _)| !held.keys.contains_key(key)));
                    loaded.import = Import::Taken(values.len());
                }
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(
                        store = name.as_str(),
                        why,
                        "the older file of the store is not taken over"
                    );
                    loaded.import = Import::Refused(why);
                }
            }
        }
        let defaults = options.defaults.unwrap_or_default();
        let was_there = held.is_known || matches!(loaded.import, Import::Taken(_));
        if !(options.override_defaults && was_there) || options.create_new {
            for (key, value) in &defaults {
                if options.create_new || !held.keys.contains_key(key) {
                    values.entry(key).or_insert_with(|| value.clone());
                }
            }
        }
        let gone = held.keys.keys().filter(|key| options.create_new && !values.contains_key(*key)).cloned();
        let gone: Vec<Change> = gone.map(|key| Change { key, value: None }).collect();
        let set = values.into_iter().map(|(key, value)| Change { key, value: Some(value) });
        let changes = gone.into_iter().chain(set).collect();
        let ticket = self.commit(&mut index, name, changes, true)?;
        let held = index.of_store(name);
        (held.defaults, held.loaded) = (Some(defaults), ticket.lsn());
        drop(index);
        self.durable(ticket)?;
        Ok(loaded)
    }

    /// Whether a store of the name was loaded in this process.
    pub fn is_known(&self, name: &StoreName) -> bool {
        self.0.index.lock().get(name).is_some_and(|held| held.defaults.is_some())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn get(&self, name: &StoreName, key: &str) -> Result<Option<Json>> {
        let index = self.0.index.lock();
        let view = self.0.db.view()?;
        let entity = index.get(name).and_then(|held| held.keys.get(key).copied());
        drop(index);
        entity.map(|entity| value(&view, entity)).transpose()
    }

    /// All keys with their values, sorted by the keys, as they were at one moment.
    ///
    /// # Errors
    /// As [`Stores::get`].
    pub fn entries(&self, name: &StoreName) -> Result<Vec<(String, Json)>> {
        let index = self.0.index.lock();
        let view = self.0.db.view()?;
        let keys = index.get(name).map(|held| held.keys.clone()).unwrap_or_default();
        drop(index);
        keys.into_iter().map(|(key, entity)| Ok((key, value(&view, entity)?))).collect()
    }

    /// All keys, sorted.
    pub fn keys(&self, name: &StoreName) -> Vec<String> {
        let index = self.0.index.lock();
        index.get(name).map_or_else(Vec::new, |held| held.keys.keys().cloned().collect())
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// When the value is too large, or it cannot be made durable.
    pub fn set(&self, name: &StoreName, key: &str, value: Json) -> Result<()> {
        self.change(name, |_| Ok(vec![Change { key: key.into(), value: Some(value) }]))?;
        Ok(())
    }

    /// Deletes a key; false where it is not there.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn delete(&self, name: &StoreName, key: &str) -> Result<bool> {
        let deleted = self.change(name, |held| {
            let is_there = held.keys.contains_key(key);
            Ok(is_there.then(|| Change { key: key.into(), value: None }).into_iter().collect())
        })?;
        Ok(deleted > 0)
    }

    /// Deletes all keys.
    ///
    /// # Errors
    /// As [`Stores::delete`].
    pub fn clear(&self, name: &StoreName) -> Result<()> {
        self.change(name, |held| {
            Ok(held.keys.keys().map(|key| Change { key: key.clone(), value: None }).collect())
        })?;
        Ok(())
    }

    /// Goes back to the defaults that the store was loaded with in this process; where it was loaded without any it is as [`Stores::clear`].
    ///
    /// # Errors
    /// As [`Stores::set`]; and of kind [`Call`](ErrorKind::Call) when it was not loaded in this process, so that nobody knows its defaults.
    pub fn reset(&self, name: &StoreName) -> Result<()> {
        self.change(name, |held| {
            let unknown = || {
                Error::call(format!(
                    "{:?} is not loaded, and only loading says what its defaults are: load it first",
                    name.as_str()
                ))
            };
            let defaults = held.defaults.clone().ok_or_else(unknown)?;
            let gone = held.keys.keys().filter(|key| !defaults.contains_key(*key));
            let gone: Vec<Change> = gone.map(|key| Change { key: key.clone(), value: None }).collect();
            let set = defaults.into_iter().map(|(key, value)| Change { key, value: Some(value) });
            Ok(gone.into_iter().chain(set).collect())
        })?;
        Ok(())
    }

    /// Waits until everything that anybody set is on stable storage. What returned before is so already.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn save(&self) -> Result<()> {
        self.0.db.sync()?;
        Ok(())
    }

    /// Ends everything; whatever returned is on stable storage.
    ///
    /// # Errors
    /// As [`Database::close`].
    pub fn close(&self) -> Result<()> {
        Ok(self.0.db.close()?)
    }

    pub(crate) fn watch(&self, webview: &str, name: StoreName, channel: Channel<Json>) -> u32 {
        self.0.changes.watch(webview, name, channel)
    }

    pub(crate) fn unwatch(&self, webview: &str, id: u32) -> bool {
        self.0.changes.unwatch(webview, id)
    }

    pub(crate) fn unwatch_all(&self, webview: &str) {
        self.0.changes.unwatch_all(webview);
    }

    /// Changes a store by what `plan` makes of it, and returns when that is durable, with the number of keys changed.
    fn change(
        &self,
        name: &StoreName,
        plan: impl FnOnce(&index::Held) -> Result<Vec<Change>>,
    ) -> Result<usize> {
        let mut index = self.0.index.lock();
        let changes = plan(index.of_store(name))?;
        let count = changes.len();
        let ticket = self.commit(&mut index, name, changes, false)?;
        drop(index);
        self.durable(ticket)?;
        Ok(count)
    }

    /// One transaction, and the index after it. Loading makes the store known, so that its older file is looked at once.
    fn commit(
        &self,
        index: &mut Index,
        name: &StoreName,
        changes: Vec<Change>,
        loading: bool,
    ) -> Result<Ticket<()>> {
        for Change { key, value } in &changes {
            if value.as_ref().is_some_and(|value| is_deeper(value, DEPTH_MAX)) {
                return Err(Error::call(format!(
                    "{key:?} has lists and objects more than {DEPTH_MAX} deep in one another"
                )));
            }
        }
        let held = index.of_store(name);
        let mut made = Vec::new();
        let ticket = self.0.db.submit(|tx| {
            if loading && !held.is_known {
                tx.spawn((Known { name: name.as_str().into() },));
            }
            for Change { key, value } in &changes {
                match (held.keys.get(key), value) {
                    (Some(&entity), Some(value)) => tx.get_mut::<Entry>(entity)?.value = value.to_string(),
                    (Some(&entity), None) => tx.despawn(entity)?,
                    (None, Some(value)) => {
                        let (store, key) = (name.as_str().into(), key.clone());
                        made.push((key.clone(), tx.spawn((Entry { store, key, value: value.to_string() },))));
                    }
                    (None, None) => {}
                }
            }
            Ok(())
        })?;
        held.is_known |= loading;
        for change in changes.iter().filter(|change| change.value.is_none()) {
            held.keys.remove(&change.key);
        }
        held.keys.extend(made);
        if !changes.is_empty() {
            self.0.changes.committed(ticket.lsn(), name.clone(), changes);
        }
        Ok(ticket)
    }

    /// Waits for the disk, and tells whoever watches.
    fn durable(&self, ticket: Ticket<()>) -> Result<()> {
        let lsn: Lsn = ticket.lsn();
        ticket.wait()?;
        self.0.changes.tell(self.0.db.durable_lsn().max(lsn));
        Ok(())
    }
}

/// Lists and objects that may be in one another, so that what is written can be read.
const DEPTH_MAX: usize = 127;

fn is_deeper(value: &Json, than: usize) -> bool {
    let within = |inner: &Json| is_deeper(inner, than - 1);
    match value {
        Json::Array(list) => than == 0 || list.iter().any(within),
        Json::Object(fields) => than == 0 || fields.values().any(within),
        _ => false,
    }
}

fn value(view: &View, entity: Entity) -> Result<Json> {
    let entry = view.get::<Entry>(entity)?;
    let damaged = |e| Error { kind: ErrorKind::Damaged, message: format!("the value of {}: {e}", entry.key) };
    serde_json::from_str(&entry.value).map_err(damaged)
}

#[cfg(test)]
mod tests;
