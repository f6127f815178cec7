//! The five, as the same thing: a million values of 12 bytes by number, of which some are changed in one transaction.

use std::path::Path;
use std::sync::Mutex;

use anyhow::Context;
use ecsdb::prelude::*;
use redb::ReadableDatabase;

/// A value: three floats.
pub(crate) type Value = [u8; 12];

/// What is promised when a commit returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// It is on stable storage.
    Durable,
    /// It survives the process; after a power cut the newest may be missing.
    Relaxed,
}

/// A store under measurement. A change of several values is one transaction.
pub(crate) trait Store: Sync {
    fn write(&self, changes: &mut dyn Iterator<Item = (u64, Value)>) -> anyhow::Result<()>;
    /// Changes every value in one transaction, as an application would with this store.
    fn tick(&self, step: u32, n: u64) -> anyhow::Result<()> {
        self.write(&mut (0..n).map(|i| (i, value(i, step))))
    }
    /// Reads all values; gives their number, and a sum so that they are looked at.
    fn read_all(&self) -> anyhow::Result<(u64, u64)>;
    /// Many changes of one value each, of which the caller waits for each, as fast as the store can take them from two threads; how many were done.
    fn tickets(&self, _until: std::time::Instant) -> Option<anyhow::Result<u64>> {
        None
    }
    /// Brings what was written with [`Promise::Relaxed`] to the disk.
    fn sync(&self) -> anyhow::Result<()>;
}

pub(crate) fn value(i: u64, step: u32) -> Value {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&(i as f32 + step as f32).to_le_bytes());
    value[4..8].copy_from_slice(&step.to_le_bytes());
    value
}

fn sum(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

/// Which stores there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Ecsdb,
    Sqlite,
    Redb,
    Fjall,
    Lmdb,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] = [Kind::Ecsdb, Kind::Sqlite, Kind::Redb, Kind::Fjall, Kind::Lmdb];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ecsdb => "ecsdb",
            Kind::Sqlite => "SQLite",
            Kind::Redb => "redb",
            Kind::Fjall => "fjall",
            Kind::Lmdb => "LMDB",
        }
    }

    /// What stands behind its figure.
    pub(crate) fn guarantee(self, promise: Promise) -> &'static str {
        match (self, promise) {
            (Kind::Ecsdb, Promise::Durable) => "`Durability::Immediate`: `fdatasync` before it returns",
            (Kind::Ecsdb, Promise::Relaxed) => {
                "`Durability::Buffered`: with the operating system within 10 ms"
            }
            (Kind::Sqlite, Promise::Durable) => {
                "WAL, `synchronous = FULL`: `fsync` of the WAL at each commit"
            }
            (Kind::Sqlite, Promise::Relaxed) => {
                "WAL, `synchronous = NORMAL`: with the operating system when it returns"
            }
            (Kind::Redb, Promise::Durable) => "`Durability::Immediate`",
            (Kind::Redb, Promise::Relaxed) => {
                "`Durability::None`: lost with the process until a later durable commit"
            }
            (Kind::Fjall, Promise::Durable) => "`PersistMode::SyncData` at each batch",
            (Kind::Fjall, Promise::Relaxed) => {
                "`PersistMode::Buffer`: with the operating system when it returns"
            }
            (Kind::Lmdb, Promise::Durable) => "`fdatasync` at each commit",
            (Kind::Lmdb, Promise::Relaxed) => "`NO_SYNC`: a power cut can damage the whole file",
        }
    }

    pub(crate) fn open(self, dir: &Path, promise: Promise) -> anyhow::Result<Box<dyn Store>> {
        std::fs::create_dir_all(dir)?;
        Ok(match self {
            Kind::Ecsdb => Box::new(Ecsdb::open(dir, promise)?),
            Kind::Sqlite => Box::new(Sqlite::open(dir, promise)?),
            Kind::Redb => Box::new(Redb::open(dir, promise)?),
            Kind::Fjall => Box::new(Fjall::open(dir, promise)?),
            Kind::Lmdb => Box::new(Lmdb::open(dir, promise)?),
        })
    }
}

#[derive(Component, Clone, Copy)]
#[component(name = "bench.position", plain)]
#[repr(C)]
struct Position([f32; 3]);

impl Position {
    fn of(value: Value) -> Position {
        let float = |at: usize| f32::from_le_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
        Position([float(0), float(4), float(8)])
    }
}

struct Ecsdb {
    db: Database,
    durability: Durability,
    /// By number: they are made in this order.
    entities: Mutex<std::sync::Arc<Vec<Entity>>>,
}

impl Ecsdb {
    fn open(dir: &Path, promise: Promise) -> anyhow::Result<Self> {
        let db = Database::open(dir)?;
        let durability = match promise {
            Promise::Durable => Durability::Immediate,
            Promise::Relaxed => Durability::Buffered,
        };
        let mut entities: Vec<Entity> =
            db.view()?.query::<(Entity, &Position)>()?.map(|(id, _)| id).collect();
        entities.sort_by_key(|id| id.index());
        Ok(Ecsdb { db, durability, entities: Mutex::new(entities.into()) })
    }

    fn entities(&self) -> anyhow::Result<std::sync::Arc<Vec<Entity>>> {
        Ok(self.entities.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?.clone())
    }
}

impl Store for Ecsdb {
    fn write(&self, changes: &mut dyn Iterator<Item = (u64, Value)>) -> anyhow::Result<()> {
        let entities = self.entities()?;
        let made = self.db.write_with(self.durability, |tx| {
            let mut made = Vec::new();
            for (i, value) in changes {
                match entities.get(i as usize) {
                    Some(&id) => *tx.get_mut::<Position>(id)? = Position::of(value),
                    None => made.push(tx.spawn(Position::of(value))),
                }
            }
            Ok(made)
        })?;
        if !made.is_empty() {
            let mut all = self.entities.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            *all = all.iter().copied().chain(made).collect::<Vec<_>>().into();
        }
        Ok(())
    }

    fn tick(&self, step: u32, _n: u64) -> anyhow::Result<()> {
        self.db.write_with(self.durability, |tx| {
            tx.query::<&mut Position>().for_each(|position| {
                position.0[0] += 1.0;
                position.0[1] = f32::from_bits(step);
            });
            Ok(())
        })?;
        Ok(())
    }

    fn read_all(&self) -> anyhow::Result<(u64, u64)> {
        let (mut n, mut total) = (0, 0u64);
        self.db.view()?.query::<&Position>()?.for_each(|position| {
            n += 1;
            total = total.wrapping_add(u64::from(position.0[0].to_bits()));
        });
        Ok((n, total))
    }

    fn tickets(&self, until: std::time::Instant) -> Option<anyhow::Result<u64>> {
        let two = || -> anyhow::Result<u64> {
            let entities = self.entities()?;
            let one = |thread: usize| -> ecsdb::Result<u64> {
                let (mut flight, mut done) = (std::collections::VecDeque::new(), 0u64);
                while !done.is_multiple_of(256) || std::time::Instant::now() < until {
                    let id = entities[(done as usize * 2 + thread) % entities.len()];
                    flight.push_back(self.db.submit(|tx| Ok(tx.get_mut::<Position>(id)?.0[0] += 1.0))?);
                    done += 1;
                    if flight.len() == 500
                        && let Some(oldest) = flight.pop_front()
                    {
                        oldest.wait()?;
                    }
                }
                flight.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
                Ok(done)
            };
            std::thread::scope(|scope| {
                let threads = [0, 1].map(|thread| scope.spawn(move || one(thread)));
                let mut done = 0;
                for thread in threads {
                    done += thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
                }
                Ok(done)
            })
        };
        Some(two())
    }

    fn sync(&self) -> anyhow::Result<()> {
        Ok(self.db.sync().map(drop)?)
    }
}

struct Sqlite(Mutex<rusqlite::Connection>);

impl Sqlite {
    fn open(dir: &Path, promise: Promise) -> anyhow::Result<Self> {
        let connection = rusqlite::Connection::open(dir.join("db.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = if promise == Promise::Durable { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection
            .execute("CREATE TABLE IF NOT EXISTS it (id INTEGER PRIMARY KEY, value BLOB NOT NULL)", ())?;
        Ok(Sqlite(Mutex::new(connection)))
    }
}

impl Store for Sqlite {
    fn write(&self, changes: &mut dyn Iterator<Item = (u64, Value)>) -> anyhow::Result<()> {
        let mut connection = self.0.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        let transaction = connection.transaction()?;
        {
            let mut put =
                transaction.prepare_cached("INSERT OR REPLACE INTO it (id, value) VALUES (?1, ?2)")?;
            for (i, value) in changes {
                put.execute((i as i64, &value[..]))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read_all(&self) -> anyhow::Result<(u64, u64)> {
        let connection = self.0.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        let mut all = connection.prepare("SELECT value FROM it")?;
        let mut rows = all.query(())?;
        let (mut n, mut total) = (0, 0u64);
        while let Some(row) = rows.next()? {
            n += 1;
            total = total.wrapping_add(sum(row.get_ref(0)?.as_blob()?));
        }
        Ok((n, total))
    }

    fn sync(&self) -> anyhow::Result<()> {
        let connection = self.0.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        Ok(connection.query_row("PRAGMA wal_checkpoint(FULL)", (), |_| Ok(()))?)
    }
}

struct Redb(redb::Database, redb::Durability);

const TABLE: redb::TableDefinition<'_, u64, &[u8; 12]> = redb::TableDefinition::new("it");

impl Redb {
    fn open(dir: &Path, promise: Promise) -> anyhow::Result<Self> {
        let durability =
            if promise == Promise::Durable { redb::Durability::Immediate } else { redb::Durability::None };
        Ok(Redb(redb::Database::create(dir.join("db.redb"))?, durability))
    }

    fn write_as(
        &self,
        changes: &mut dyn Iterator<Item = (u64, Value)>,
        durability: redb::Durability,
    ) -> anyhow::Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (i, value) in changes {
                table.insert(i, &value)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Redb {
    fn write(&self, changes: &mut dyn Iterator<Item = (u64, Value)>) -> anyhow::Result<()> {
        self.write_as(changes, self.1)
    }

    fn read_all(&self) -> anyhow::Result<(u64, u64)> {
        let transaction = self.0.begin_read()?;
        let table = transaction.open_table(TABLE)?;
        let (mut n, mut total) = (0, 0u64);
        for entry in table.range::<u64>(..)? {
            n += 1;
            total = total.wrapping_add(sum(entry?.1.value()));
        }
        Ok((n, total))
    }

    fn sync(&self) -> anyhow::Result<()> {
        self.write_as(&mut std::iter::empty(), redb::Durability::Immediate)
    }
}

struct Fjall {
    db: fjall::Database,
    keyspace: fjall::Keyspace,
    mode: fjall::PersistMode,
}

impl Fjall {
    fn open(dir: &Path, promise: Promise) -> anyhow::Result<Self> {
        let db = fjall::Database::builder(dir.join("fjall")).open()?;
        let keyspace = db.keyspace("it", fjall::KeyspaceCreateOptions::default)?;
        let mode = match promise {
            Promise::Durable => fjall::PersistMode::SyncData,
            Promise::Relaxed => fjall::PersistMode::Buffer,
        };
        Ok(Fjall { db, keyspace, mode })
    }
}

impl Store for Fjall {
    fn write(&self, changes: &mut dyn Iterator<Item = (u64, Value)>) -> anyhow::Result<()> {
        let mut batch = self.db.batch().durability(Some(self.mode));
        for (i, value) in changes {
            batch.insert(&self.keyspace, i.to_be_bytes(), value);
        }
        Ok(batch.commit()?)
    }

    fn read_all(&self) -> anyhow::Result<(u64, u64)> {
        let (mut n, mut total) = (0, 0u64);
        for entry in self.keyspace.iter() {
            n += 1;
            total = total.wrapping_add(sum(&entry.value()?));
        }
        Ok((n, total))
    }

    fn sync(&self) -> anyhow::Result<()> {
        Ok(self.db.persist(fjall::PersistMode::SyncData)?)
    }
}

type LmdbTable = heed::Database<heed::types::U64<heed::byteorder::NativeEndian>, heed::types::Bytes>;

struct Lmdb {
    env: heed::Env,
    table: LmdbTable,
}

impl Lmdb {
    fn open(dir: &Path, promise: Promise) -> anyhow::Result<Self> {
        let mut options = heed::EnvOpenOptions::new();
        options.map_size(4 << 30);
        // SAFETY: nobody else has the directory, which was made for this run; without syncs the file may be damaged by a power cut, of which
        // there is none here.
        let env = unsafe {
            if promise == Promise::Relaxed {
                options.flags(heed::EnvFlags::NO_SYNC);
            }
            options.open(dir)
        }?;
        let mut transaction = env.write_txn()?;
        let table: LmdbTable = env.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(Lmdb { env, table })
    }
}

impl Store for Lmdb {
    fn write(&self, changes: &mut dyn Iterator<Item = (u64, Value)>) -> anyhow::Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (i, value) in changes {
            self.table.put(&mut transaction, &i, &value)?;
        }
        Ok(transaction.commit()?)
    }

    fn read_all(&self) -> anyhow::Result<(u64, u64)> {
        let transaction = self.env.read_txn()?;
        let (mut n, mut total) = (0, 0u64);
        for entry in self.table.iter(&transaction)? {
            n += 1;
            total = total.wrapping_add(sum(entry?.1));
        }
        Ok((n, total))
    }

    fn sync(&self) -> anyhow::Result<()> {
        self.env.force_sync().context("cannot sync LMDB")
    }
}
