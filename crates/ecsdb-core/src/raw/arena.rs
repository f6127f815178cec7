//! Where a transaction keeps what it may have to put back: old values and rows taken out, moved as bytes into one
//! growing buffer, so that neither costs an allocation of its own.
//!
//! Plain values are bytes and nothing else. A value of any other type is still a value: the arena owns it until it is
//! given back to a block, or dropped at the end of the transaction, when no row is on its way any more (TX-4).

use std::any::TypeId;
use std::mem::MaybeUninit;

use super::ops::{Ops, copy_row};
use crate::buffers::KEPT_BYTES;

/// The buffer's unit, and the greatest alignment of a value.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Unit([MaybeUninit<u8>; UNIT]);

const UNIT: usize = 64;
/// Values start at multiples of this, and places count in it.
const STEP: usize = 8;
/// Units of the first buffer.
const UNITS_MIN: usize = 64;
/// Transactions that must have done with a quarter of the buffer before it is given back.
const IDLE_MAX: u32 = 64;

/// Where a value is in an [`Arena`]: of a plain one the place of its bytes, of another its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) u32);

/// A value that is not plain bytes.
struct Held {
    ops: Ops,
    offset: usize,
    /// False once it was given back.
    here: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Arena {
    units: Vec<Unit>,
    /// Bytes in use.
    len: usize,
    held: Vec<Held>,
    idle: u32,
}

// SAFETY: the arena owns its values, and every row type is a `Component`, hence `Send + Sync`.
unsafe impl Send for Arena {}
// SAFETY: as above; shared access is read only.
unsafe impl Sync for Arena {}

impl Arena {
    /// Room for `size` bytes at a multiple of `align`; returns its offset.
    fn reserve(&mut self, size: usize, align: usize) -> usize {
        let offset = self.len.next_multiple_of(align.max(STEP));
        self.len = offset + size;
        let units = self.len.div_ceil(UNIT);
        if units > self.units.len() {
            self.grow(units);
        }
        assert!(offset / STEP < u32::MAX as usize, "an arena holds less than 32 GiB");
        offset
    }

    #[cold]
    fn grow(&mut self, units: usize) {
        let units = units.max(self.units.len() * 2).max(UNITS_MIN);
        self.units.reserve_exact(units - self.units.len());
        // SAFETY: units are uninitialised bytes anyway, and there is room for so many.
        unsafe { self.units.set_len(units) };
    }

    fn base(&self) -> *const u8 {
        self.units.as_ptr().cast()
    }

    /// Copies plain bytes in.
    #[inline]
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> At {
        let offset = self.reserve(bytes.len(), STEP);
        // SAFETY: just reserved; the source is another allocation, since the buffer is borrowed exclusively.
        unsafe {
            let to = self.units.as_mut_ptr().cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        At((offset / STEP) as u32)
    }

    /// The bytes of plain values that were copied in at `at`.
    #[inline]
    pub(crate) fn bytes(&self, at: At, len: usize) -> &[u8] {
        let offset = at.0 as usize * STEP;
        assert!(offset + len <= self.len, "no such place in the arena");
        // SAFETY: within the bytes in use. Those of plain values have been written; the caller asks for no others, since
        // places come from `push_bytes` and `take`.
        unsafe { std::slice::from_raw_parts(self.base().add(offset), len) }
    }

    /// The value at `at`, which is not plain, if it is here and of type `T`.
    pub(crate) fn held<T: 'static>(&self, at: At) -> Option<&T> {
        let held = self.held.get(at.0 as usize)?;
        let is = held.here && matches!(held.ops, Ops::Typed(ops) if (ops.type_id)() == TypeId::of::<T>());
        // SAFETY: an initialised value of type `T`, at a multiple of its alignment, which the arena owns for as long as it is borrowed.
        is.then(|| unsafe { &*self.base().add(held.offset).cast::<T>() })
    }

    /// Moves a value in.
    ///
    /// SAFETY: `value` is an initialised value of the type of `ops`, which nobody else drops or reads any more; for plain
    /// types, initialised bytes.
    #[inline]
    pub(super) unsafe fn take(&mut self, ops: Ops, value: *const u8) -> At {
        let size = ops.size();
        let offset = self.reserve(size, ops.align());
        // SAFETY: just reserved, and the caller's value is of that size and in another allocation.
        unsafe {
            let to = self.units.as_mut_ptr().cast::<u8>().add(offset);
            copy_row(value, to, size);
        }
        if ops.is_plain() {
            return At((offset / STEP) as u32);
        }
        self.held.push(Held { ops, offset, here: true });
        At((self.held.len() - 1) as u32)
    }

    /// A pointer to the value at `at`, which must be here and of the type of `ops`.
    #[inline]
    pub(super) fn value(&self, ops: Ops, at: At) -> *const u8 {
        let offset = self.offset(ops, at);
        // SAFETY: within the buffer.
        unsafe { self.base().add(offset) }
    }

    /// As [`Arena::value`], to be written.
    #[inline]
    pub(super) fn value_mut(&mut self, ops: Ops, at: At) -> *mut u8 {
        let offset = self.offset(ops, at);
        // SAFETY: within the buffer.
        unsafe { self.units.as_mut_ptr().cast::<u8>().add(offset) }
    }

    #[inline]
    fn offset(&self, ops: Ops, at: At) -> usize {
        let offset = if ops.is_plain() {
            at.0 as usize * STEP
        } else {
            let held = &self.held[at.0 as usize];
            assert!(held.here && held.ops.same(ops), "the value was given back, or is of another type");
            held.offset
        };
        assert!(offset + ops.size() <= self.len, "no such place in the arena");
        offset
    }

    /// The value at `at` is given up to the caller, who has read it.
    #[inline]
    pub(super) fn give(&mut self, ops: Ops, at: At) {
        if !ops.is_plain() {
            self.held[at.0 as usize].here = false;
        }
    }

    /// Drops what is still here and starts again.
    pub(crate) fn clear(&mut self) {
        // Taken out first, so that nothing is dropped twice, come what may.
        let mut held = std::mem::take(&mut self.held);
        for Held { ops, offset, .. } in held.drain(..).filter(|held| held.here) {
            if let Ops::Typed(ops) = ops {
                // SAFETY: an initialised value of this type, which is not used after.
                unsafe { ops.drop_rows(self.units.as_mut_ptr().cast::<u8>().add(offset), 1) };
            }
        }
        self.held = held;
        self.shrink();
        self.len = 0;
    }

    /// Gives memory back that the last transactions had no use for.
    fn shrink(&mut self) {
        if self.units.len() * UNIT <= KEPT_BYTES || self.len * 4 > self.units.len() * UNIT {
            self.idle = 0;
            return;
        }
        self.idle += 1;
        if self.idle > IDLE_MAX {
            self.idle = 0;
            self.units.truncate(self.units.len() / 2);
            self.units.shrink_to_fit();
            self.held.shrink_to(self.units.len());
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.clear();
    }
}
