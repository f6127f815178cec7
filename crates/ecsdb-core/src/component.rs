//! The component: a type with a stable name, and how its values are stored.

use std::any::TypeId;
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};

use rkyv::Portable;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::SharedValidator;

use crate::buffers::KEPT_BYTES;
use crate::describe::{Describe, Description, TooDeep, canonical, check_depth, nested_bytes_max};
use crate::limits;
use crate::raw::{Plain, TypeOps, bytes_of};

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
    /// How values are stored.
    const STORAGE: Storage<Self>;

    /// What the type consists of: what is stored under one description is read under no other.
    fn description() -> &'static Description;

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
    canonical: fn(&T, &mut Vec<u8>) -> Result<(), CodecError>,
    /// For plain types: whether bytes are a value; `None` when any are.
    pub(crate) is_valid: Option<fn(&[u8]) -> bool>,
    /// Alignment of the archive.
    pub(crate) archive_align: usize,
    /// Bytes in memory of parts that lie one within another: what reading a value needs of a stack.
    nested_bytes: fn() -> usize,
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
    Archive(rancor::BoxedError),
    /// The bytes are no value of the plain type: a `bool` that is neither 0 nor 1, say.
    #[error("the bytes are no value of the type")]
    Invalid,
    /// The archive of the value is larger than allowed.
    #[error("a value of {bytes} bytes, and at most {max} are allowed")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The value contains itself, or others, too many levels deep.
    #[error("the value is nested more than {0} levels deep")]
    TooDeep(usize),
    /// A transient component has no stored form.
    #[error("a transient component has no stored form")]
    Transient,
}

impl From<TooDeep> for CodecError {
    fn from(_: TooDeep) -> Self {
        CodecError::TooDeep(limits::VALUE_DEPTH_MAX)
    }
}

impl<T> Storage<T> {
    /// Stored as its memory bytes.
    pub const fn plain() -> Self
    where
        T: Plain,
    {
        Storage {
            kind: StorageKind::Plain,
            encode: |value, out| {
                out.extend_from_slice(bytes_of(value));
                Ok(())
            },
            // Rows are copied into their places and checked there, never made on a stack.
            decode: |bytes| Err(CodecError::Length { expected: size_of::<T>(), found: bytes.len() }),
            canonical: |value, out| {
                out.extend_from_slice(bytes_of(value));
                Ok(())
            },
            is_valid: if T::ANY_BYTES { None } else { Some(T::is_valid) },
            archive_align: 1,
            nested_bytes: || 0,
        }
    }

    /// Stored through rkyv.
    pub const fn archived() -> Self
    where
        T: Component
            + Describe
            + rkyv::Archive
            + for<'a> rkyv::Serialize<HighSerializer<Buffer, ArenaHandle<'a>, rancor::BoxedError>>,
        T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::BoxedError>>
            + rkyv::Deserialize<T, HighDeserializer<rancor::BoxedError>>,
    {
        Storage {
            kind: StorageKind::Archived,
            encode: |value, out| {
                if T::description().is_recursive() {
                    check_depth(value)?;
                }
                let buffer = SCRATCH.take();
                let buffer = rkyv::api::high::to_bytes_in(value, buffer).map_err(CodecError::Archive)?;
                // As it will be read: what would be refused then is refused now.
                validated::<T::Archived>(&buffer.0)?;
                out.extend_from_slice(&buffer.0);
                buffer.keep();
                Ok(())
            },
            decode: |bytes| {
                // The archive must be aligned; its place in a file is not.
                let mut buffer = SCRATCH.take();
                buffer.0.extend_from_slice(bytes);
                let value = validated::<T::Archived>(&buffer.0).and_then(|archived| {
                    rkyv::api::high::deserialize::<T, rancor::BoxedError>(archived)
                        .map_err(CodecError::Archive)
                });
                buffer.keep();
                value
            },
            canonical: |value, out| Ok(canonical(value, out)?),
            is_valid: None,
            archive_align: align_of::<T::Archived>(),
            nested_bytes: nested_bytes_max::<T>,
        }
    }

    pub(crate) const fn archived_with(
        encode: fn(&T, &mut Vec<u8>) -> Result<(), CodecError>,
        decode: fn(&[u8]) -> Result<T, CodecError>,
    ) -> Self {
        Storage {
            kind: StorageKind::Archived,
            encode,
            decode,
            canonical: encode,
            is_valid: None,
            archive_align: 1,
            nested_bytes: || 0,
        }
    }

    /// Kept in memory only.
    pub const fn transient() -> Self {
        Storage {
            kind: StorageKind::Transient,
            encode: |_, _| Err(CodecError::Transient),
            decode: |_| Err(CodecError::Transient),
            canonical: |_, _| Err(CodecError::Transient),
            is_valid: None,
            archive_align: 1,
            nested_bytes: || 0,
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

    /// The form that equal values share.
    pub(crate) fn canonical(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (self.canonical)(value, out)
    }
}

/// Archives are made and read in memory of the greatest alignment that is allowed.
type Aligned = AlignedVec<{ limits::ALIGN_MAX }>;

/// Where an archive is written: to no more bytes than a value may have.
#[derive(Debug, Default)]
pub struct Buffer(Aligned);

impl Buffer {
    fn keep(mut self) {
        self.0.clear();
        if self.0.capacity() <= KEPT_BYTES {
            SCRATCH.set(self);
        }
    }
}

impl rkyv::ser::Positional for Buffer {
    #[inline]
    fn pos(&self) -> usize {
        self.0.len()
    }
}

impl rkyv::ser::Writer<rancor::BoxedError> for Buffer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), rancor::BoxedError> {
        limits::check_value(self.0.len().saturating_add(bytes.len())).map_err(rancor::Source::new)?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Looks at an archive, bounded in size and depth: the one function for what was just written and for what is read.
fn validated<A>(bytes: &[u8]) -> Result<&A, CodecError>
where
    A: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::BoxedError>>,
{
    limits::check_value(bytes.len())?;
    // rkyv counts the root as a level, and goes one level less deep than its bound says.
    let depth = NonZeroUsize::new(limits::VALUE_DEPTH_MAX + 2);
    let mut validator =
        Validator::new(ArchiveValidator::with_max_depth(bytes, depth), SharedValidator::new());
    let at = rkyv::api::root_position::<A>(bytes.len());
    rkyv::api::access_pos_with_context::<A, _, rancor::BoxedError>(bytes, at, &mut validator)
        .map_err(CodecError::Archive)
}

thread_local! {
    /// One aligned buffer a thread, so that encoding a value allocates nothing in the long run.
    static SCRATCH: RefCell<Buffer> = RefCell::new(Buffer(Aligned::new()));
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
    pub(crate) description: fn() -> &'static Description,
    pub(crate) kind: StorageKind,
    pub(crate) archive_align: usize,
    pub(crate) nested_bytes: fn() -> usize,
    pub(crate) ops: &'static TypeOps,
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) type_name: fn() -> &'static str,
    pub(crate) type_slot: fn() -> u32,
}

impl ComponentType {
    /// The description of `T`.
    pub const fn of<T: Component>() -> Self {
        ComponentType {
            name: T::NAME,
            version: T::VERSION,
            description: T::description,
            kind: T::STORAGE.kind(),
            archive_align: T::STORAGE.archive_align,
            nested_bytes: T::STORAGE.nested_bytes,
            ops: TypeOps::of::<T>(),
            type_id: TypeId::of::<T>,
            type_name: std::any::type_name::<T>,
            type_slot: T::type_slot,
        }
    }
}

inventory::collect!(ComponentType);
