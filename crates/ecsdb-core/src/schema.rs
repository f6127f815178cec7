//! The schema: which components this database has, and which Rust types they are.

use std::any::TypeId;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::codec::{Reader, put_bytes, put_varint};
use crate::component::{Component, ComponentType, StorageKind};
use crate::describe::Description;
use crate::error::{Error, Result};
use crate::limits;
use crate::raw::{Ops, TypeOps};
use crate::stored_value::StoredValue;

/// The number of a component in one database: what stands in log and snapshot. Dense, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId(pub u32);

/// The stored definition of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentDef {
    /// Its number in this database.
    pub id: ComponentId,
    /// Its stable name.
    pub name: Arc<str>,
    /// Version of the layout.
    pub version: u32,
    /// Kind of storage.
    pub kind: StorageKind,
    /// Bytes of a value, for plain components; 0 for others.
    pub size: u32,
    /// What its type consists of.
    pub description: Arc<Description>,
}

impl ComponentDef {
    /// How a type that a program has differs from this definition; `None` when values of the one are values of the other.
    fn difference(&self, version: u32, kind: StorageKind, description: &Description) -> Option<String> {
        if self.kind != kind {
            return Some(format!("{:?} in the database, {kind:?} in the program", self.kind));
        }
        if let Some(difference) = self.description.difference(description) {
            return Some(difference);
        }
        (self.version != version)
            .then(|| format!("version {} in the database, {version} in the program", self.version))
    }

    pub(crate) fn mismatch(
        &self,
        version: u32,
        kind: StorageKind,
        description: &Description,
    ) -> Option<Error> {
        let difference = self.difference(version, kind, description)?;
        Some(Error::SchemaMismatch { name: self.name.to_string(), difference })
    }
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) def: ComponentDef,
    pub(crate) ops: Ops,
    /// The Rust type, once one is known.
    rust_type: Option<(TypeId, &'static str)>,
    /// Why its stored values cannot be read as the program's type, whose description is theirs all the same.
    pub(crate) unreadable: Option<Arc<str>>,
}

/// The components of one world. Cloned on write: views keep the schema they were captured with.
#[derive(Clone, Default)]
pub struct Schema {
    entries: Vec<Entry>,
    by_name: FxHashMap<Arc<str>, ComponentId>,
    /// Component id by [`Component::type_slot`].
    by_slot: Vec<Option<ComponentId>>,
}

impl Schema {
    /// The id of `T`, if it has been used in this world.
    #[inline]
    pub(crate) fn id_of<T: Component>(&self) -> Option<ComponentId> {
        *self.by_slot.get(T::type_slot() as usize)?
    }

    pub(crate) fn entry(&self, id: ComponentId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)
    }

    /// The entry of an id that this world gave out.
    pub(crate) fn known(&self, id: ComponentId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    pub(crate) fn defs(&self) -> impl Iterator<Item = &ComponentDef> {
        self.entries.iter().map(|e| &e.def)
    }

    /// Notes that a component's values stay as stored bytes.
    pub(crate) fn close(&mut self, id: ComponentId, why: &str) {
        self.entries[id.0 as usize].unreadable = Some(why.into());
    }

    /// Why values of `T`, which is not registered, cannot be read.
    #[cold]
    pub(crate) fn not_registered<T: Component>(&self) -> Option<Error> {
        let entry = self.known(self.named(T::NAME)?);
        if let Some(why) = &entry.unreadable {
            return Some(Error::Unreadable { component: T::NAME, why: why.to_string() });
        }
        let own = (TypeId::of::<T>(), std::any::type_name::<T>());
        let registered = entry.rust_type.filter(|(known, _)| *known != own.0).map(|(_, name)| name);
        if registered.is_none()
            && let Some(mismatch) = entry.def.mismatch(T::VERSION, T::STORAGE.kind(), T::description())
        {
            return Some(mismatch);
        }
        // Another type has the name, or would have as good a right to it.
        let other = registered.or_else(|| {
            inventory::iter::<ComponentType>()
                .filter(|ty| ty.name == T::NAME && (ty.type_id)() != own.0)
                .find(|ty| entry.def.mismatch(ty.version, ty.kind, (ty.description)()).is_none())
                .map(|ty| (ty.type_name)())
        });
        Some(match other {
            Some(first) => Error::NameTaken { name: T::NAME.into(), first, second: own.1 },
            None => Error::NotRegistered(T::NAME),
        })
    }

    pub(crate) fn named(&self, name: &str) -> Option<ComponentId> {
        self.by_name.get(name).copied()
    }

    /// Finds or makes the entry of a Rust type. The flag says that the entry's rows, if there are any, are still
    /// of an unknown type and must be turned into rows of this one.
    pub(crate) fn register(&mut self, ty: &ComponentType) -> Result<(ComponentId, bool)> {
        let id = match self.named(ty.name) {
            None => {
                let def = ComponentDef {
                    id: ComponentId(self.entries.len() as u32),
                    name: ty.name.into(),
                    version: ty.version,
                    kind: ty.kind,
                    size: stored_size(ty),
                    description: Arc::new((ty.description)().clone()),
                };
                check_type(ty, &def)?;
                self.add(def, Ops::Typed(ty.ops))?
            }
            Some(id) => id,
        };
        let entry = &mut self.entries[id.0 as usize];
        let newly_known = match entry.rust_type {
            Some((known, _)) if known == (ty.type_id)() => false,
            Some((_, first)) => {
                let name = ty.name.to_string();
                return Err(Error::NameTaken { name, first, second: (ty.type_name)() });
            }
            None => {
                if let Some(mismatch) = entry.def.mismatch(ty.version, ty.kind, (ty.description)()) {
                    return Err(mismatch);
                }
                check_type(ty, &entry.def)?;
                entry.ops = Ops::Typed(ty.ops);
                entry.rust_type = Some(((ty.type_id)(), (ty.type_name)()));
                true
            }
        };
        let slot = (ty.type_slot)() as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some(id);
        Ok((id, newly_known))
    }

    /// Adds a stored definition, whose Rust type may be unknown. The same one again is fine.
    pub(crate) fn define(&mut self, def: ComponentDef) -> Result<ComponentId> {
        let malformed = |what| Err(Error::Malformed { offset: 0, what });
        if let Some(entry) = self.entry(def.id)
            && !entry.def.name.is_empty()
        {
            return if entry.def == def { Ok(def.id) } else { malformed("a component id is defined twice") };
        }
        if self.named(&def.name).is_some() {
            return malformed("a component name is defined twice");
        }
        if def.id.0 >= limits::COMPONENTS_MAX || def.name.is_empty() {
            return malformed("a component definition is out of bounds");
        }
        limits::check_definition(&def.name, def.size as usize, &def.description)?;
        if def.kind == StorageKind::Plain && def.description.bytes() != Some(def.size) {
            return malformed("a plain component has another size than its description");
        }
        let ops = match def.kind {
            StorageKind::Plain => Ops::Bytes(def.size),
            _ => Ops::Typed(TypeOps::of::<StoredValue>()),
        };
        self.add(def, ops)
    }

    fn add(&mut self, def: ComponentDef, ops: Ops) -> Result<ComponentId> {
        let id = def.id;
        if id.0 >= limits::COMPONENTS_MAX {
            return Err(Error::Full("a database has at most 65,536 components"));
        }
        // Ids of transient components are not stored, so stored ids can have gaps.
        while self.entries.len() <= id.0 as usize {
            let def = ComponentDef {
                id: ComponentId(self.entries.len() as u32),
                name: "".into(),
                version: 0,
                kind: StorageKind::Transient,
                size: 0,
                description: Arc::new(Description::none()),
            };
            self.entries.push(Entry { def, ops: Ops::Bytes(0), rust_type: None, unreadable: None });
        }
        self.by_name.insert(def.name.clone(), id);
        self.entries[id.0 as usize] = Entry { def, ops, rust_type: None, unreadable: None };
        Ok(id)
    }
}

fn stored_size(ty: &ComponentType) -> u32 {
    match ty.kind {
        StorageKind::Plain => ty.ops.size() as u32,
        _ => 0,
    }
}

/// What a program's type must keep to, and any definition. Of every kind: blocks and arenas hold values of transient types as they do
/// others.
fn check_type(ty: &ComponentType, def: &ComponentDef) -> Result<()> {
    let align = ty.ops.align().max(ty.archive_align);
    limits::check_type(ty.name, ty.kind, ty.ops.size(), align)?;
    limits::check_parts(ty.name, (ty.nested_bytes)())?;
    limits::check_definition(ty.name, def.size as usize, &def.description)?;
    if def.description.is_unordered() && def.description.has_opaque_parts() {
        return Err(Error::NoCanonicalForm(ty.name.into()));
    }
    Ok(())
}

/// Writes a definition down, in change sets and snapshots alike.
pub(crate) fn put_def(out: &mut Vec<u8>, def: &ComponentDef) {
    put_varint(out, u64::from(def.id.0));
    out.push(def.kind as u8);
    put_varint(out, u64::from(def.version));
    put_varint(out, u64::from(def.size));
    put_bytes(out, def.name.as_bytes());
    put_bytes(out, &def.description.to_bytes());
}

/// Reads what [`put_def`] writes.
pub(crate) fn take_def(reader: &mut Reader<'_>) -> Result<ComponentDef> {
    let id = ComponentId(reader.varint_u32()?);
    let kind = match StorageKind::from_byte(reader.byte()?) {
        Some(kind) if kind != StorageKind::Transient => kind,
        _ => return reader.malformed("this is no kind of component that this version knows"),
    };
    let (version, size) = (reader.varint_u32()?, reader.varint_u32()?);
    let Ok(name) = std::str::from_utf8(reader.bytes()?) else {
        return reader.malformed("a component name is not UTF-8");
    };
    let description = reader.bytes()?;
    if description.len() > limits::DESCRIPTION_BYTES_MAX {
        return reader.malformed("a description has more than 1 MiB");
    }
    let description = Arc::new(Description::from_bytes(description)?);
    Ok(ComponentDef { id, name: name.into(), version, kind, size, description })
}
