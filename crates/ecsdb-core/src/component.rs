//! The component: a type with a stable name, and how its values are stored.

use std::any::TypeId;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use bytemuck::Pod;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;

use crate::raw::TypeOps;

/// Data that an entity can have, or that a world can have once (a resource).
///
/// Derive it; see the derive macro's documentation for the attribute.
///
/// ```
/// use ecsdb_core::Component;
///
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "game.position", plain)]
/// #[repr(C)]
/// struct Position { x: f32, y: f32 }
///
/// #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// #[component(name = "game.name", archived)]
/// struct Name(String);
///
/// #[derive(Component, Clone)]
/// #[component(name = "game.path_cache", transient)]
/// struct PathCache(Vec<(i32, i32)>);
///
/// assert_eq!(Position::NAME, "game.position");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component",
    note = "add `#[derive(Component, Clone)]` and `#[component(name = \"…\", plain | archived | transient)]` to it"
)]
pub trait Component: Clone + Send + Sync + Sized + 'static {
    /// The name in log and snapshot: never to be changed.
    const NAME: &'static str;
    /// The version of the layout.
    const VERSION: u32;
    /// A hash of the declared fields: tells a layout that was changed without a new version.
    const FINGERPRINT: u64;
    /// How values are stored.
    const STORAGE: Storage<Self>;

    /// A small number for this type in this process.
    #[doc(hidden)]
    fn type_slot() -> u32;
}

/// The kinds of component, by how their values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StorageKind {
    /// Fixed size without padding: the bytes in memory are the bytes in log and snapshot.
    Plain = 1,
    /// Through rkyv, validated when read.
    Archived = 2,
    /// In memory only.
    Transient = 3,
}

impl StorageKind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(StorageKind::Plain),
            2 => Some(StorageKind::Archived),
            3 => Some(StorageKind::Transient),
            _ => None,
        }
    }
}

/// How a component's values become bytes, and bytes values. Made by the derive macro.
#[derive(Debug)]
pub struct Storage<T> {
    kind: StorageKind,
    encode: fn(&T, &mut Vec<u8>) -> Result<(), CodecError>,
    decode: fn(&[u8]) -> Result<T, CodecError>,
}

/// A value that could not be encoded, or bytes that are no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes of a plain value have another length than the type.
    #[error("{found} bytes where the type has {expected}")]
    Length {
        /// Bytes of the type.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// rkyv refused to encode the value, or the bytes did not validate.
    #[error("{0}")]
    Archive(#[source] rancor::Error),
    /// A transient component has no stored form.
    #[error("a transient component has no stored form")]
    Transient,
}

impl<T> Storage<T> {
    /// Stored as its memory bytes.
    pub const fn plain() -> Self
    where
        T: Pod,
    {
        Storage {
            kind: StorageKind::Plain,
            encode: |value, out| {
                out.extend_from_slice(bytemuck::bytes_of(value));
                Ok(())
            },
            decode: |bytes| {
                bytemuck::try_pod_read_unaligned(bytes)
                    .map_err(|_| CodecError::Length { expected: size_of::<T>(), found: bytes.len() })
            },
        }
    }

    /// Stored through rkyv.
    pub const fn archived() -> Self
    where
        T: rkyv::Archive
            + for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
        T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
            + rkyv::Deserialize<T, HighDeserializer<rancor::Error>>,
    {
        Storage {
            kind: StorageKind::Archived,
            encode: |value, out| {
                let mut buffer = SCRATCH.take();
                buffer.clear();
                let buffer = rkyv::api::high::to_bytes_in(value, buffer).map_err(CodecError::Archive)?;
                out.extend_from_slice(&buffer);
                SCRATCH.set(buffer);
                Ok(())
            },
            decode: |bytes| {
                // The archive must be aligned; its place in a file is not.
                let mut buffer = SCRATCH.take();
                buffer.clear();
                buffer.extend_from_slice(bytes);
                let value = rkyv::from_bytes::<T, rancor::Error>(&buffer).map_err(CodecError::Archive);
                SCRATCH.set(buffer);
                value
            },
        }
    }

    pub(crate) const fn archived_with(
        encode: fn(&T, &mut Vec<u8>) -> Result<(), CodecError>,
        decode: fn(&[u8]) -> Result<T, CodecError>,
    ) -> Self {
        Storage { kind: StorageKind::Archived, encode, decode }
    }

    /// Kept in memory only.
    pub const fn transient() -> Self {
        Storage {
            kind: StorageKind::Transient,
            encode: |_, _| Err(CodecError::Transient),
            decode: |_| Err(CodecError::Transient),
        }
    }

    /// Which kind it is.
    pub const fn kind(&self) -> StorageKind {
        self.kind
    }

    pub(crate) fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (self.encode)(value, out)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        (self.decode)(bytes)
    }
}

thread_local! {
    /// One aligned buffer a thread, so that encoding a value allocates nothing in the long run.
    static SCRATCH: RefCell<AlignedVec> = RefCell::new(AlignedVec::new());
}

/// A process-wide number for a type, given on first use. What turns a type into a component id is then an index
/// into a table, not a hash.
#[doc(hidden)]
#[derive(Debug)]
pub struct TypeSlot(AtomicU32);

static NEXT_SLOT: AtomicU32 = AtomicU32::new(1);

impl TypeSlot {
    #[doc(hidden)]
    pub const fn new() -> Self {
        TypeSlot(AtomicU32::new(0))
    }

    #[doc(hidden)]
    #[inline]
    pub fn get(&self) -> u32 {
        match self.0.load(Ordering::Relaxed) {
            0 => self.assign(),
            slot => slot,
        }
    }

    #[cold]
    fn assign(&self) -> u32 {
        let new = NEXT_SLOT.fetch_add(1, Ordering::Relaxed);
        match self.0.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => new,
            Err(earlier) => earlier,
        }
    }
}

/// A component type of this program, known before any value of it is used: opening a database turns stored
/// columns into columns of these types. The derive macro submits one for each type.
pub struct ComponentType {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) fingerprint: u64,
    pub(crate) kind: StorageKind,
    pub(crate) ops: &'static TypeOps,
    pub(crate) type_id: TypeId,
    pub(crate) type_name: fn() -> &'static str,
    pub(crate) type_slot: fn() -> u32,
}

impl ComponentType {
    /// The description of `T`.
    pub const fn of<T: Component>() -> Self {
        ComponentType {
            name: T::NAME,
            version: T::VERSION,
            fingerprint: T::FINGERPRINT,
            kind: T::STORAGE.kind(),
            ops: TypeOps::of::<T>(),
            type_id: TypeId::of::<T>(),
            type_name: std::any::type_name::<T>,
            type_slot: T::type_slot,
        }
    }
}

inventory::collect!(ComponentType);

/// The hash behind [`Component::FINGERPRINT`].
pub const fn fingerprint(shape: &str) -> u64 {
    xxhash_rust::const_xxh3::xxh3_64(shape.as_bytes())
}
