//! Where a transaction keeps what it may have to put back: old values and rows taken out, moved as bytes into
//! slabs, so that neither costs an allocation of its own.
//!
//! Plain values are bytes and nothing else. A value of any other type is still a value: the arena owns it until it is
//! given back to a block, or dropped at the end of the transaction, when no row is on its way any more (TX-4).

use std::any::TypeId;
use std::mem::MaybeUninit;

use super::ops::{Ops, copy_row};
use crate::buffers::{Idle, KEPT_BYTES, reset};
use crate::error::{Error, Result};
use crate::limits::{ALIGN_MAX, PLAIN_BYTES_MAX};

/// The slabs' unit, and the greatest alignment of a value.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Unit([MaybeUninit<u8>; UNIT]);

const UNIT: usize = ALIGN_MAX;
const _: () = assert!(size_of::<Unit>() == UNIT && align_of::<Unit>() == ALIGN_MAX);
/// Values start at multiples of this, and places count in it.
const STEP: usize = 8;
/// Bytes of a slab. What a large transaction has used is given back by a slab at a time: all at once would be the next one's pause.
const SLAB: usize = 64 << 10;

/// Bytes up to which places have numbers.
const BYTES_MAX: usize = (u32::MAX as usize).saturating_mul(STEP);

/// That an [`Arena`] has room for what is about to be taken out. Whoever puts something in shows that he has asked, before the first value of
/// a row was moved: a row is never taken out in part.
#[derive(Clone, Copy)]
pub(crate) struct Room(());

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

/// [`SLAB`] bytes: an allocation of their own, or a part of that of a slab before, for a value that is larger than one.
struct Slab {
    start: *mut u8,
    /// Bytes from its start to the end of the allocation.
    len: usize,
    /// The allocation, if it begins here; uninitialised.
    _units: Vec<Unit>,
}

/// See the module.
pub(crate) struct Arena {
    /// No value goes over the end of a slab but within one allocation.
    slabs: Vec<Slab>,
    /// Bytes in use, those that were passed over included.
    len: usize,
    held: Vec<Held>,
    idle: Idle,
    /// Bytes at most.
    limit: usize,
}

impl Default for Arena {
    fn default() -> Self {
        Arena { slabs: Vec::new(), len: 0, held: Vec::new(), idle: Idle::default(), limit: BYTES_MAX }
    }
}

// SAFETY: the arena owns its values, and every row type is a `Component`, hence `Send + Sync`.
unsafe impl Send for Arena {}
// SAFETY: as above; shared access is read only.
unsafe impl Sync for Arena {}

/// Bytes that a value of `size` bytes takes at most: it goes over the end of no slab, and passes over fewer than it has.
const fn bytes_max(size: usize) -> usize {
    2 * size + ALIGN_MAX
}

impl Arena {
    /// Room for values of these types, each so many `times`.
    ///
    /// # Errors
    /// [`Error::Full`].
    #[inline]
    pub(crate) fn room_for(&self, values: impl ExactSizeIterator<Item = Ops>, times: usize) -> Result<Room> {
        let numbers = self.held.len() + values.len() * times;
        // As nearly always, whatever the types are.
        if self.len + values.len() * times * bytes_max(PLAIN_BYTES_MAX) <= self.limit
            && numbers < u32::MAX as usize
        {
            return Ok(Room(()));
        }
        let bytes: usize = values.map(|ops| bytes_max(ops.size())).sum();
        self.room(bytes * times, numbers)
    }

    /// Room for so many bytes of plain values.
    ///
    /// # Errors
    /// [`Error::Full`].
    #[inline]
    pub(crate) fn room_for_bytes(&self, bytes: usize) -> Result<Room> {
        self.room(bytes_max(bytes), 0)
    }

    fn room(&self, bytes: usize, numbers: usize) -> Result<Room> {
        if self.len + bytes <= self.limit && numbers < u32::MAX as usize {
            return Ok(Room(()));
        }
        Err(Error::Full(
            "a transaction keeps at most 32 GiB of earlier values and removed rows, to undo it: make it several",
        ))
    }

    /// Room for `size` bytes at a multiple of `align`; returns its offset.
    #[inline]
    fn reserve(&mut self, size: usize, align: usize) -> usize {
        debug_assert!(align <= ALIGN_MAX, "no component is registered whose type has more");
        let mut offset = self.len.next_multiple_of(align.max(STEP));
        if offset % SLAB + size > SLAB {
            offset = offset.next_multiple_of(SLAB);
        }
        self.len = offset + size;
        if self.slabs.get(offset / SLAB).is_none_or(|slab| slab.len < offset % SLAB + size) {
            self.grow(offset / SLAB, size);
        }
        offset
    }

    /// The place of a plain value.
    #[inline]
    fn place(offset: usize) -> At {
        assert!(offset / STEP < u32::MAX as usize, "there is room for what is put in");
        At((offset / STEP) as u32)
    }

    /// Makes a slab with this number, or several in one allocation; values are in none from there on.
    #[cold]
    fn grow(&mut self, number: usize, size: usize) {
        debug_assert!(number <= self.slabs.len(), "the slabs before it are there");
        self.slabs.truncate(number);
        let slabs = size.div_ceil(SLAB).max(1);
        let mut units = Vec::<Unit>::with_capacity(slabs * SLAB / UNIT);
        let start = units.as_mut_ptr().cast::<u8>();
        let mut owned = Some(units);
        for before in (0..slabs).map(|slab| slab * SLAB) {
            // SAFETY: within the allocation.
            let start = unsafe { start.add(before) };
            self.slabs.push(Slab {
                start,
                len: slabs * SLAB - before,
                _units: owned.take().unwrap_or_default(),
            });
        }
    }

    /// A pointer to `len` bytes at `offset`, which a value was given.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let slab = &self.slabs[offset / SLAB];
        assert!(offset + len <= self.len && offset % SLAB + len <= slab.len, "no such place in the arena");
        // SAFETY: within the allocation, as just seen.
        unsafe { slab.start.add(offset % SLAB) }
    }

    /// Copies plain bytes in.
    #[inline]
    pub(crate) fn push_bytes(&mut self, bytes: &[u8], _: Room) -> At {
        let offset = self.reserve(bytes.len(), STEP);
        // SAFETY: just reserved; the source is another allocation, since the buffer is borrowed exclusively.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset, bytes.len()), bytes.len());
        }
        Self::place(offset)
    }

    /// The bytes of plain values that were copied in at `at`.
    #[inline]
    pub(crate) fn bytes(&self, at: At, len: usize) -> &[u8] {
        let bytes = self.at(at.0 as usize * STEP, len);
        // SAFETY: within the bytes in use. Those of plain values have been written; the caller asks for no others, since
        // places come from `push_bytes` and `take`.
        unsafe { std::slice::from_raw_parts(bytes, len) }
    }

    /// The value at `at`, which is not plain, if it is here and of type `T`.
    pub(crate) fn held<T: 'static>(&self, at: At) -> Option<&T> {
        let held = self.held.get(at.0 as usize)?;
        let is = held.here && matches!(held.ops, Ops::Typed(ops) if (ops.type_id)() == TypeId::of::<T>());
        // SAFETY: an initialised value of type `T`, at a multiple of its alignment, which the arena owns for as long as it is borrowed.
        is.then(|| unsafe { &*self.at(held.offset, size_of::<T>()).cast::<T>() })
    }

    /// Moves a value in.
    ///
    /// SAFETY: `value` is an initialised value of the type of `ops`, which nobody else drops or reads any more; for plain
    /// types, initialised bytes.
    #[inline]
    pub(super) unsafe fn take(&mut self, ops: Ops, value: *const u8, _: Room) -> At {
        // SAFETY: as the caller says.
        let offset = unsafe { self.copy_in(ops, value) };
        debug_assert!(self.len <= self.limit, "there is room for what is put in");
        if ops.is_plain() {
            return Self::place(offset);
        }
        self.held.push(Held { ops, offset, here: true });
        At((self.held.len() - 1) as u32)
    }

    /// Copies a value to the end; returns its offset.
    ///
    /// SAFETY: as of [`Arena::take`].
    #[inline]
    unsafe fn copy_in(&mut self, ops: Ops, value: *const u8) -> usize {
        let size = ops.size();
        let offset = self.reserve(size, ops.align());
        // SAFETY: just reserved, and the caller's value is of that size and in another allocation.
        unsafe {
            copy_row(value, self.at(offset, size), size);
        }
        offset
    }

    /// Moves a value in whose place is `at`, from where it was given before, so that no room is needed. Its type may have become known meanwhile.
    ///
    /// SAFETY: as of [`Arena::take`].
    pub(super) unsafe fn take_again(&mut self, ops: Ops, value: *const u8, at: At) {
        let size = ops.size();
        if ops.is_plain() {
            let place = self.at(at.0 as usize * STEP, size);
            // SAFETY: a plain value has as many bytes as when it was here, and is in another allocation.
            unsafe { copy_row(value, place, size) };
            return;
        }
        let held = &self.held[at.0 as usize];
        assert!(!held.here, "the value was given back");
        let offset = if held.ops.same(ops) {
            let place = self.at(held.offset, size);
            // SAFETY: a value of this type was here, and this one is in another allocation.
            unsafe { copy_row(value, place, size) };
            held.offset
        } else {
            // SAFETY: as the caller says.
            unsafe { self.copy_in(ops, value) }
        };
        self.held[at.0 as usize] = Held { ops, offset, here: true };
    }

    /// Moves a value in that is needed no more, to be dropped when no row is on its way. It has no place, so that no room is needed.
    ///
    /// SAFETY: as of [`Arena::take`].
    pub(super) unsafe fn bury(&mut self, ops: Ops, value: *const u8) {
        if !ops.is_plain() {
            // SAFETY: as the caller says.
            let offset = unsafe { self.copy_in(ops, value) };
            self.held.push(Held { ops, offset, here: true });
        }
    }

    /// A pointer to the value at `at`, which must be here and of the type of `ops`.
    #[inline]
    pub(super) fn value(&self, ops: Ops, at: At) -> *const u8 {
        self.at(self.offset(ops, at), ops.size())
    }

    /// As [`Arena::value`], to be written.
    #[inline]
    pub(super) fn value_mut(&mut self, ops: Ops, at: At) -> *mut u8 {
        self.at(self.offset(ops, at), ops.size())
    }

    #[inline]
    fn offset(&self, ops: Ops, at: At) -> usize {
        if ops.is_plain() {
            return at.0 as usize * STEP;
        }
        let held = &self.held[at.0 as usize];
        assert!(held.here && held.ops.same(ops), "the value was given back, or is of another type");
        held.offset
    }

    /// The value at `at` is given up to the caller, who has read it.
    #[inline]
    pub(super) fn give(&mut self, ops: Ops, at: At) {
        if !ops.is_plain() {
            self.held[at.0 as usize].here = false;
        }
    }

    /// Drops what is still here and starts again. Gives memory back that the last transactions had no use for.
    pub(crate) fn clear(&mut self) {
        // Taken out first, so that nothing is dropped twice, come what may.
        let mut held = std::mem::take(&mut self.held);
        for Held { ops, offset, .. } in held.drain(..).filter(|held| held.here) {
            if let Ops::Typed(ops) = ops {
                // SAFETY: an initialised value of this type, which is not used after.
                unsafe { ops.drop_rows(self.at(offset, ops.size), 1) };
            }
        }
        self.held = held;
        reset(&mut self.held);
        self.idle.give_back(&mut self.slabs, self.len.div_ceil(SLAB), KEPT_BYTES / SLAB, 1);
        // Whole allocations only: what is left of one would be taken for all of it.
        while self.slabs.last().is_some_and(|slab| slab.len > SLAB) {
            self.slabs.pop();
        }
        self.len = 0;
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    impl Arena {
        pub(crate) fn with_limit(limit: usize) -> Self {
            let mut arena = Arena::default();
            arena.limit = limit;
            arena
        }

        fn push(&mut self, bytes: &[u8]) -> At {
            let room = self.room_for_bytes(bytes.len()).unwrap();
            self.push_bytes(bytes, room)
        }
    }

    const SIZES: [usize; 8] = [0, 1, 12, 2048, SLAB - 8, SLAB, SLAB + 1, 3 * SLAB + 40];

    proptest! {
        /// Values of any size keep their bytes, whatever earlier transactions have left.
        #[test]
        fn what_is_put_in_is_there(transactions in vec((vec((0..SIZES.len(), any::<u8>()), 0..40), 0..100), 0..12)) {
            let mut arena = Arena::default();
            for (put, small) in transactions {
                let at: Vec<At> = put.iter().map(|&(size, byte)| arena.push(&vec![byte; SIZES[size]])).collect();
                for (at, &(size, byte)) in at.iter().zip(&put) {
                    prop_assert!(arena.bytes(*at, SIZES[size]).iter().all(|found| *found == byte));
                }
                arena.clear();
                // Which give back what that one has left.
                for _ in 0..small {
                    arena.push(&[1]);
                    arena.clear();
                }
            }
        }
    }

    /// Whatever was put in before, what there is room for fits.
    #[test]
    fn what_there_is_room_for_fits() {
        for first in [0, 1, SLAB - 9, SLAB, 3 * SLAB + 40] {
            let mut arena = Arena::with_limit(8 * SLAB);
            arena.push(&vec![1; first]);
            for size in SIZES.into_iter().cycle() {
                let Ok(room) = arena.room_for([Ops::Bytes(size as u32)].into_iter(), 2) else { break };
                arena.push_bytes(&vec![1; size], room);
                arena.push_bytes(&vec![1; size], room);
                assert!(arena.len <= arena.limit, "{first} and {size}");
            }
            assert!(arena.len > 2 * SLAB);
        }
    }

    /// What a large transaction has used is given back by those after it, each a little.
    #[test]
    fn memory_is_given_back_by_the_slab() {
        let mut arena = Arena::default();
        for _ in 0..100 {
            arena.push(&[7; SLAB]);
        }
        arena.clear();
        assert!(arena.slabs.len() >= 100);
        for _ in 0..1000 {
            let before = arena.slabs.len();
            arena.push(&[1; 100]);
            arena.clear();
            assert!(before - arena.slabs.len() <= 1, "{before}");
        }
        assert_eq!(arena.slabs.len(), KEPT_BYTES / SLAB);
    }

    #[test]
    #[should_panic(expected = "no such place in the arena")]
    fn nothing_is_read_over_the_end_of_a_slab() {
        let mut arena = Arena::default();
        let at = arena.push(&[1; 16]);
        arena.push(&[2; SLAB]);
        arena.bytes(at, SLAB + 8);
    }
}
