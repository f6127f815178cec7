//! What is known of a component's type once the type is erased: layout, and how to clone, drop, encode and
//! decode it.

use std::any::{Any, TypeId};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::component::{CodecError, Component, StorageKind};

/// The operations on an erased component type. One per type, in static memory.
pub(crate) struct TypeOps {
    pub(super) type_id: fn() -> TypeId,
    pub(super) size: usize,
    pub(super) align: usize,
    /// Memory bytes are the value: [`Plain`](super::Plain), where [`StorageKind::Plain`] was made.
    pub(super) plain: bool,
    needs_drop: bool,
    /// Drops `n` values. SAFETY: the pointer is to `n` initialised values of the type, which are dead after.
    drop: unsafe fn(*mut u8, usize),
    /// Clones `n` values, counting each that is done, so that a panic of `clone` leaves no value uncounted.
    /// SAFETY: source is `n` initialised values, destination room for as many, both of the type.
    pub(super) clone: unsafe fn(*const u8, *mut u8, usize, &mut u32),
    /// For plain types of which not any bytes are a value: whether those of one row are.
    pub(super) is_valid: Option<fn(&[u8]) -> bool>,
    /// Appends the form that equal values share. SAFETY: as of `encode`.
    pub(super) canonical: unsafe fn(*const u8, &mut Vec<u8>) -> Result<(), CodecError>,
    /// SAFETY: the pointer is to an initialised value of the type.
    pub(super) encode: unsafe fn(*const u8, &mut Vec<u8>) -> Result<(), CodecError>,
    /// Writes the decoded value; on an error nothing is written. SAFETY: the pointer is to room for a value of
    /// the type.
    pub(super) decode: unsafe fn(&[u8], *mut u8) -> Result<(), CodecError>,
}

struct OpsOf<T>(PhantomData<T>);

impl<T: Component> OpsOf<T> {
    const OPS: TypeOps = TypeOps {
        type_id: TypeId::of::<T>,
        size: size_of::<T>(),
        align: align_of::<T>(),
        plain: matches!(T::STORAGE.kind(), StorageKind::Plain),
        needs_drop: std::mem::needs_drop::<T>(),
        drop: drop_values::<T>,
        clone: clone_values::<T>,
        is_valid: T::STORAGE.is_valid,
        canonical: canonical_value::<T>,
        encode: encode_value::<T>,
        decode: decode_value::<T>,
    };
}

impl TypeOps {
    pub(crate) const fn of<T: Component>() -> &'static TypeOps {
        const { &OpsOf::<T>::OPS }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn align(&self) -> usize {
        self.align
    }

    /// Drops values one by one. A destructor that panics is reported by the panic hook, and stops neither the others nor
    /// what is under way: nothing here depends on what it would have done.
    ///
    /// SAFETY: the pointer is to `n` initialised values of the type, which are dead after.
    pub(super) unsafe fn drop_rows(&self, values: *mut u8, n: usize) {
        if !self.needs_drop {
            return;
        }
        for i in 0..n {
            // SAFETY: within the caller's values, each of which is dropped once.
            let dropped =
                catch_unwind(AssertUnwindSafe(|| unsafe { (self.drop)(values.add(i * self.size), 1) }));
            if let Err(payload) = dropped {
                discard(payload);
            }
        }
    }
}

/// The type of a block's rows.
#[derive(Clone, Copy)]
pub(crate) enum Ops {
    /// A Rust type of this program.
    Typed(&'static TypeOps),
    /// A plain component whose Rust type this program does not have: so many bytes each.
    Bytes(u32),
}

impl Ops {
    pub(crate) fn size(self) -> usize {
        match self {
            Ops::Typed(ops) => ops.size,
            Ops::Bytes(size) => size as usize,
        }
    }

    /// Alignment of a row.
    pub(super) fn align(self) -> usize {
        match self {
            Ops::Typed(ops) => ops.align,
            Ops::Bytes(_) => 1,
        }
    }

    /// True when rows of both are of one type.
    pub(crate) fn same(self, other: Ops) -> bool {
        match (self, other) {
            (Ops::Typed(a), Ops::Typed(b)) => (a.type_id)() == (b.type_id)(),
            (Ops::Bytes(a), Ops::Bytes(b)) => a == b,
            _ => false,
        }
    }

    pub(super) fn type_id(self) -> Option<TypeId> {
        match self {
            Ops::Typed(ops) => Some((ops.type_id)()),
            Ops::Bytes(_) => None,
        }
    }

    /// Whether plain rows' bytes are values of the type.
    pub(super) fn check_plain(self, bytes: &[u8]) -> Result<(), CodecError> {
        match self {
            Ops::Typed(TypeOps { is_valid: Some(is_valid), size, .. }) if *size > 0 => {
                if bytes.chunks_exact(*size).all(is_valid) { Ok(()) } else { Err(CodecError::Invalid) }
            }
            _ => Ok(()),
        }
    }

    /// True when the memory bytes of a row are its stored form.
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Ops::Typed(ops) => ops.plain,
            Ops::Bytes(_) => true,
        }
    }
}

/// Drops what a panic carried, which may have a destructor that panics, too.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}

unsafe fn drop_values<T>(values: *mut u8, n: usize) {
    // SAFETY: the caller hands over `n` initialised values of `T`.
    unsafe { std::ptr::slice_from_raw_parts_mut(values.cast::<T>(), n).drop_in_place() }
}

unsafe fn clone_values<T: Clone>(from: *const u8, to: *mut u8, n: usize, done: &mut u32) {
    let (from, to) = (from.cast::<T>(), to.cast::<T>());
    for i in 0..n {
        // SAFETY: both are within the `n` values that the caller vouches for.
        unsafe { to.add(i).write((*from.add(i)).clone()) };
        *done += 1;
    }
}

unsafe fn encode_value<T: Component>(value: *const u8, out: &mut Vec<u8>) -> Result<(), CodecError> {
    // SAFETY: the caller's pointer is to an initialised `T`.
    T::STORAGE.encode(unsafe { &*value.cast::<T>() }, out)
}

unsafe fn canonical_value<T: Component>(value: *const u8, out: &mut Vec<u8>) -> Result<(), CodecError> {
    // SAFETY: the caller's pointer is to an initialised `T`.
    T::STORAGE.canonical(unsafe { &*value.cast::<T>() }, out)
}

unsafe fn decode_value<T: Component>(bytes: &[u8], to: *mut u8) -> Result<(), CodecError> {
    let value = T::STORAGE.decode(bytes)?;
    // SAFETY: the caller's pointer is to room for a `T`.
    unsafe { to.cast::<T>().write(value) };
    Ok(())
}

/// Copies one row; what small ones take is done without a call.
///
/// SAFETY: `from` can be read and `to` written for `size` bytes, and they do not overlap.
#[inline]
pub(super) unsafe fn copy_row(from: *const u8, to: *mut u8, size: usize) {
    macro_rules! of_size {
        ($($size:literal),*) => {
            match size {
                // SAFETY: as the caller says; bytes have no alignment.
                $($size => unsafe { to.cast::<[MaybeUninit<u8>; $size]>().write(from.cast::<[MaybeUninit<u8>; $size]>().read()) },)*
                // SAFETY: as the caller says.
                _ => unsafe { std::ptr::copy_nonoverlapping(from, to, size) },
            }
        };
    }
    of_size!(4, 8, 12, 16, 24, 32);
}
