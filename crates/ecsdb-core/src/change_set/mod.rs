//! The change set: what a transaction changed, as operations that can be logged and replayed.
//!
//! It names entities and components, never rows, chunks or pointers (WAL-8). `docs/format/changes.md` is the
//! specification; [`Operation`] reads what [`Encoder`] writes, and nothing else knows the bytes.

mod encode;
mod ids;

use bytes::Bytes;

use crate::codec::Reader;
use crate::entity::Entity;
use crate::error::Result;
use crate::schema::{ComponentDef, ComponentId, take_def};

pub(crate) use encode::{Encoder, Rows};
pub(crate) use ids::{IDS_MAX, IdRun, Ids};

/// What a transaction changed, as bytes for a log: `inline`, with each of `shared` inserted before the byte of
/// `inline` at its offset. Empty when nothing that is stored was changed.
#[derive(Debug, Clone, Copy)]
pub struct ChangeSet<'a> {
    /// The encoded operations.
    pub inline: &'a [u8],
    /// Whole columns, by reference: (offset in `inline`, bytes), offsets ascending.
    pub shared: &'a [(usize, Bytes)],
}

impl ChangeSet<'_> {
    /// True when there is nothing to log.
    pub fn is_empty(&self) -> bool {
        self.inline.is_empty()
    }

    /// The bytes in one piece. O(n).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut from = 0;
        for (at, block) in self.shared {
            bytes.extend_from_slice(&self.inline[from..*at]);
            bytes.extend_from_slice(block);
            from = *at;
        }
        bytes.extend_from_slice(&self.inline[from..]);
        bytes
    }
}

/// Which operation follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Code {
    Define = 1,
    Spawn = 2,
    Despawn = 3,
    Put = 4,
    Remove = 5,
    PutResource = 6,
    RemoveResource = 7,
    Floor = 8,
}

impl Code {
    const ALL: [Code; 8] = [
        Code::Define,
        Code::Spawn,
        Code::Despawn,
        Code::Put,
        Code::Remove,
        Code::PutResource,
        Code::RemoveResource,
        Code::Floor,
    ];
}

/// One operation of a change set.
#[derive(Debug)]
pub(crate) enum Operation<'a> {
    /// Components used from here on.
    Define(ComponentDef),
    /// New entities, all with the same components.
    Spawn {
        ids: Ids<'a>,
        columns: Columns<'a>,
    },
    /// Entities that are no more.
    Despawn {
        ids: Ids<'a>,
    },
    /// Values of entities, replacing those that they have.
    Put {
        ids: Ids<'a>,
        columns: Columns<'a>,
    },
    /// Components that entities have no more.
    Remove {
        ids: Ids<'a>,
        components: Components<'a>,
    },
    PutResource {
        id: ComponentId,
        value: &'a [u8],
    },
    RemoveResource {
        id: ComponentId,
    },
    /// Ids of generations below may have been given out by transactions that were rolled back.
    Floor(u32),
}

impl<'a> Operation<'a> {
    /// The first entity that a change set names, if that is what it begins with. O(1).
    #[inline]
    pub(crate) fn first_id(change_set: &[u8]) -> Option<Entity> {
        let mut reader = Reader::new(change_set);
        let code = reader.byte().ok()?;
        let names = [Code::Despawn, Code::Put, Code::Remove].into_iter().any(|named| named as u8 == code);
        names.then(|| Ids::first(&mut reader))?
    }

    /// Reads the next operation, whose values are checked when they are decoded. O(its ids and columns).
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Operation<'a>> {
        let byte = reader.byte()?;
        let Some(code) = Code::ALL.into_iter().find(|&code| code as u8 == byte) else {
            return reader.malformed("this is no operation that this version knows");
        };
        Ok(match code {
            Code::Define => Operation::Define(take_def(reader)?),
            Code::Spawn => Operation::Spawn { ids: Ids::decode(reader)?, columns: Columns::decode(reader)? },
            Code::Despawn => Operation::Despawn { ids: Ids::decode(reader)? },
            Code::Put => Operation::Put { ids: Ids::decode(reader)?, columns: Columns::decode(reader)? },
            Code::Remove => {
                Operation::Remove { ids: Ids::decode(reader)?, components: Components::decode(reader)? }
            }
            Code::PutResource => {
                Operation::PutResource { id: take_component(reader)?, value: reader.bytes()? }
            }
            Code::RemoveResource => Operation::RemoveResource { id: take_component(reader)? },
            Code::Floor => Operation::Floor(reader.varint_u32()?),
        })
    }
}

fn take_component(reader: &mut Reader<'_>) -> Result<ComponentId> {
    Ok(ComponentId(reader.varint_u32()?))
}

/// The columns of an operation: each component with the bytes of its values, one for each id.
#[derive(Debug, Clone)]
pub(crate) struct Columns<'a> {
    reader: Reader<'a>,
    left: u64,
}

impl<'a> Columns<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Columns<'a>> {
        let left = reader.varint()?;
        let columns = Columns { reader: reader.clone(), left };
        for _ in 0..left {
            take_component(reader)?;
            reader.bytes()?;
        }
        Ok(columns)
    }

    /// Columns that are left.
    pub(crate) fn len(&self) -> u64 {
        self.left
    }
}

impl<'a> Iterator for Columns<'a> {
    type Item = (ComponentId, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // Checked in `decode`.
        Some((take_component(&mut self.reader).ok()?, self.reader.bytes().ok()?))
    }
}

/// The components that an operation names.
#[derive(Debug, Clone)]
pub(crate) struct Components<'a> {
    reader: Reader<'a>,
    left: u64,
}

impl<'a> Components<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Components<'a>> {
        let left = reader.varint()?;
        let components = Components { reader: reader.clone(), left };
        for _ in 0..left {
            take_component(reader)?;
        }
        Ok(components)
    }
}

impl Iterator for Components<'_> {
    type Item = ComponentId;

    fn next(&mut self) -> Option<ComponentId> {
        self.left = self.left.checked_sub(1)?;
        take_component(&mut self.reader).ok()
    }
}

/// What one operation of a change set does, without the values: for whoever looks at a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the operations are")]
pub enum Change {
    /// A component is used from here on.
    Define(ComponentDef),
    /// New entities, with these components.
    Spawn {
        entities: Vec<Entity>,
        components: Vec<ComponentId>,
    },
    Despawn {
        entities: Vec<Entity>,
    },
    /// Values of these components, for entities that have them or get them by this.
    Put {
        entities: Vec<Entity>,
        components: Vec<ComponentId>,
    },
    Remove {
        entities: Vec<Entity>,
        components: Vec<ComponentId>,
    },
    PutResource(ComponentId),
    RemoveResource(ComponentId),
    /// Ids of lower generations are not given out any more.
    Floor(u32),
}

/// The operations of a logged change set, in their order. O(bytes).
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) when the bytes are none.
pub fn changes(change_set: &[u8]) -> Result<Vec<Change>> {
    let mut reader = Reader::new(change_set);
    let mut changes = Vec::new();
    let list = |ids: Ids<'_>| ids.entities().collect::<Vec<_>>();
    while !reader.is_empty() {
        changes.push(match Operation::decode(&mut reader)? {
            Operation::Define(def) => Change::Define(def),
            Operation::Spawn { ids, columns } => {
                Change::Spawn { entities: list(ids), components: columns.map(|(id, _)| id).collect() }
            }
            Operation::Despawn { ids } => Change::Despawn { entities: list(ids) },
            Operation::Put { ids, columns } => {
                Change::Put { entities: list(ids), components: columns.map(|(id, _)| id).collect() }
            }
            Operation::Remove { ids, components } => {
                Change::Remove { entities: list(ids), components: components.collect() }
            }
            Operation::PutResource { id, .. } => Change::PutResource(id),
            Operation::RemoveResource { id } => Change::RemoveResource(id),
            Operation::Floor(floor) => Change::Floor(floor),
        });
    }
    Ok(changes)
}

/// Ids in pieces that fit one operation each.
pub(crate) fn pieces(ids: &[Entity]) -> impl Iterator<Item = &[Entity]> {
    ids.chunks(IDS_MAX)
}
