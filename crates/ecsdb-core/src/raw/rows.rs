//! Single rows on their way between a block and the arena of a transaction.
//!
//! Nothing in here calls foreign code but [`Block::save_row`] and the encoding of values, so that a row on its way always
//! arrives.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use super::arena::{Arena, At, Room};
use super::block::Block;
use super::ops::{Ops, copy_row};
use super::prefetch::prefetch;
use crate::component::{CodecError, Component};

impl Block {
    /// Has a row brought into the cache while other work goes on.
    #[inline]
    pub(crate) fn prefetch_row(&self, row: usize) {
        if let Some(row) = self.bytes_of_row(row) {
            prefetch(row);
        }
    }

    /// The memory of a row, to be named and not to be read.
    #[inline]
    fn bytes_of_row(&self, row: usize) -> Option<&[MaybeUninit<u8>]> {
        // SAFETY: the row is within the allocation, and bytes that may not be initialised are all that is said of it.
        (row < self.len())
            .then(|| unsafe { std::slice::from_raw_parts(self.at(row).cast(), self.ops.size()) })
    }

    /// Moves `row` into the arena and the last row into its place.
    #[inline]
    pub(crate) fn take_row(&mut self, row: usize, arena: &mut Arena, room: Room) -> At {
        assert!(row < self.len());
        let last = self.len() - 1;
        // SAFETY: both rows are initialised; each value is moved once: out of `row`, then the last one into the hole.
        unsafe {
            let at = arena.take(self.ops, self.at(row), room);
            self.len -= 1;
            if row != last {
                copy_row(self.at(last), self.at(row), self.ops.size());
            }
            at
        }
    }

    /// The inverse of [`Block::take_row`]: moves the value at `row` to the end and one from the arena into its place.
    #[inline]
    pub(crate) fn put_row(&mut self, row: usize, at: At, arena: &mut Arena, max: usize) {
        assert!(row <= self.len());
        self.reserve(1, max);
        let value = arena.value(self.ops, at);
        // SAFETY: there is room for one more row; a row at `row` is moved to the end before it is overwritten by the
        // arena's value, which is of this type and which the arena then counts no more.
        unsafe {
            if row != self.len() {
                copy_row(self.at(row), self.at(self.len()), self.ops.size());
            }
            copy_row(value, self.at(row), self.ops.size());
        }
        arena.give(self.ops, at);
        self.len += 1;
    }

    /// Moves the last row back into the arena, to the place where it was before [`Block::put_row`].
    pub(crate) fn take_last_again(&mut self, at: At, arena: &mut Arena) {
        assert!(self.len > 0);
        self.len -= 1;
        // SAFETY: the row is initialised, and this block counts it no more.
        unsafe { arena.take_again(self.ops, self.at(self.len()), at) };
    }

    /// Moves the last row into the arena, to be dropped there.
    pub(crate) fn bury_last(&mut self, arena: &mut Arena) {
        assert!(self.len > 0);
        self.len -= 1;
        // SAFETY: the row is initialised, and this block counts it no more.
        unsafe { arena.bury(self.ops, self.at(self.len())) };
    }

    /// Puts a value in the place of `row`, which moves into the arena. The block must be of `T`; a mismatch is a bug of this
    /// crate.
    #[inline]
    pub(crate) fn replace<T: Component>(
        &mut self,
        row: usize,
        value: T,
        arena: &mut Arena,
        room: Room,
    ) -> At {
        assert!(self.is::<T>() && row < self.len(), "a block of another type");
        // SAFETY: the row is initialised and of type `T`; it is moved out, then written without being dropped.
        unsafe {
            let at = arena.take(self.ops, self.at(row), room);
            self.at(row).cast::<T>().write(value);
            at
        }
    }

    /// Copies the value of `row` into the arena, which for types that are not plain calls their `clone`.
    #[inline]
    pub(crate) fn save_row(&self, row: usize, arena: &mut Arena, room: Room) -> At {
        assert!(row < self.len());
        match self.ops {
            Ops::Typed(ops) if !ops.plain => {
                let copy = self.clone_row(row);
                // SAFETY: the copy's only row is moved out, and counted no more.
                unsafe {
                    let at = arena.take(self.ops, copy.at(0), room);
                    copy.forget_rows();
                    at
                }
            }
            // SAFETY: plain values are initialised bytes, of which a copy is another value.
            _ => unsafe { arena.take(self.ops, self.at(row), room) },
        }
    }

    /// Exchanges `row` with the value saved at `at`.
    #[inline]
    pub(crate) fn exchange_row(&mut self, row: usize, at: At, arena: &mut Arena) {
        assert!(row < self.len());
        let saved = arena.value_mut(self.ops, at);
        // SAFETY: both are initialised values of one type, in different allocations, both borrowed exclusively.
        unsafe { std::ptr::swap_nonoverlapping(self.at(row), saved, self.ops.size()) }
    }

    /// True when `row` differs from the value saved at `at`, both in stored form.
    ///
    /// # Errors
    /// When one of them cannot be encoded.
    #[inline]
    pub(crate) fn differs_from_saved(
        &self,
        row: usize,
        at: At,
        arena: &Arena,
        scratch: &mut [Vec<u8>; 2],
    ) -> Result<bool, CodecError> {
        if let Some(bytes) = self.row_bytes(row) {
            return Ok(bytes != arena.bytes(at, bytes.len()));
        }
        let [new, old] = scratch;
        new.clear();
        old.clear();
        self.encode_row(row, new)?;
        let Ops::Typed(ops) = self.ops else { unreachable!("untyped rows are plain") };
        // SAFETY: the value is here, initialised, and of the type that `ops` describes.
        unsafe { (ops.encode)(arena.value(self.ops, at), old)? };
        Ok(new != old)
    }
}

/// From stored form, and the column of ids.
impl Block {
    /// Overwrites plain rows from `row` on.
    pub(crate) fn overwrite_plain(&mut self, row: usize, bytes: &[u8]) -> Result<(), CodecError> {
        let (size, found) = (self.ops.size(), bytes.len());
        self.ops.check_plain(bytes)?;
        let rows = self.bytes_mut().and_then(|rows| rows.get_mut(row * size..row * size + found));
        match rows {
            Some(rows) => rows.copy_from_slice(bytes),
            None => return Err(CodecError::Length { expected: size, found }),
        }
        Ok(())
    }

    /// Copies these plain rows back from the arena.
    pub(crate) fn restore_rows(&mut self, rows: Range<usize>, at: At, arena: &Arena) {
        let size = self.ops.size();
        let range = rows.start * size..rows.end * size;
        if let Some(bytes) = self.bytes_mut().and_then(|bytes| bytes.get_mut(range)) {
            bytes.copy_from_slice(arena.bytes(at, bytes.len()));
        }
    }

    /// Overwrites a row; the value before is dropped.
    pub(crate) fn overwrite_stored(&mut self, row: usize, bytes: &[u8]) -> Result<(), CodecError> {
        let mut new = Block::new(self.ops, 1);
        new.push_stored(bytes, 1)?;
        assert!(row < self.len());
        // SAFETY: both rows are initialised, of one type, and in different allocations, both borrowed exclusively.
        unsafe { std::ptr::swap_nonoverlapping(self.at(row), new.at(0), self.ops.size()) };
        Ok(())
    }

    /// Takes plain row `row` out, the last row moving into its place.
    #[inline]
    pub(crate) fn remove_plain(&mut self, row: usize) {
        assert!(row < self.len() && self.ops.is_plain());
        self.len -= 1;
        let last = self.len();
        if row != last {
            // SAFETY: both rows are within the allocation, and they are different ones; plain rows have no destructor.
            unsafe { copy_row(self.at(last), self.at(row), self.ops.size()) };
        }
    }

    /// Exchanges two plain rows.
    pub(crate) fn swap_plain(&mut self, a: usize, b: usize) {
        let size = self.ops.size();
        if let (true, Some(bytes)) = (a != b, self.bytes_mut()) {
            let (a, b) = (a.min(b) * size, a.max(b) * size);
            let (head, tail) = bytes.split_at_mut(b);
            head[a..a + size].swap_with_slice(&mut tail[..size]);
        }
    }
}

/// Where a row is, for [`disjoint_rows`].
pub(crate) struct RowPointer<T>(NonNull<T>);

impl Block {
    /// The place of a row; no reference to the other rows is made for it.
    pub(crate) fn row_pointer<T: 'static>(&mut self, row: usize) -> Option<RowPointer<T>> {
        if !self.is::<T>() || row >= self.len() {
            return None;
        }
        NonNull::new(self.at(row).cast()).map(RowPointer)
    }
}

/// Several rows of what `owner` owns, to be changed together. `row` gives the place of each, in a block that it has made private;
/// `None` when it fails, or when two are the same.
pub(crate) fn disjoint_rows<'a, O, T: 'static, const N: usize>(
    owner: &'a mut O,
    row: &mut impl FnMut(&mut O, usize) -> Option<RowPointer<T>>,
) -> Option<[&'a mut T; N]> {
    let mut pointers = [NonNull::<T>::dangling(); N];
    for i in 0..N {
        let pointer = row(owner, i)?.0;
        if size_of::<T>() > 0 && pointers[..i].contains(&pointer) {
            return None;
        }
        pointers[i] = pointer;
    }
    // SAFETY: each pointer is to an initialised row of a block that the owner alone has, and the owner is borrowed exclusively for
    // as long; the rows are different ones (or have no bytes); `row_pointer` derives them from the block's memory without making references to
    // other rows, and finding a later row moves no earlier one, since all blocks were private before.
    Some(pointers.map(|mut pointer| unsafe { pointer.as_mut() }))
}
