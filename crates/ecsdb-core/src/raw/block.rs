//! One column of one chunk: a typed vector whose type is erased, with a fixed greatest capacity.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::any::TypeId;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Ops;
use super::pool::{Pool, PoolKey, SLOT_BYTES_MIN};
use crate::component::{CodecError, Component};

/// Blocks start at cache lines, so that any plain type may be read from a block of untyped bytes.
const BLOCK_ALIGN: usize = 64;

/// Bytes that blocks hold, of all worlds.
static IN_USE: AtomicU64 = AtomicU64::new(0);

/// Bytes of component memory that this process holds now, in all worlds and in what views, snapshots and the log still
/// need of them. What an archived value has on the heap (the characters of a `String`, say) is not counted. O(1).
pub fn memory_in_use() -> u64 {
    IN_USE.load(Ordering::Relaxed)
}

/// Rows of one type in one allocation. Rows `0..len` are initialised.
pub struct Block {
    pub(super) ops: Ops,
    data: NonNull<u8>,
    pub(super) len: u32,
    capacity: u32,
    /// Where the memory is from; `None` for the global allocator.
    pool: Option<&'static Pool>,
}

// SAFETY: a block owns its rows, and every row type is a `Component`, hence `Send + Sync` (or bare bytes).
unsafe impl Send for Block {}
// SAFETY: as above; shared access is read only.
unsafe impl Sync for Block {}

impl Block {
    pub(crate) fn new(ops: Ops, capacity: usize) -> Block {
        let mut block = Block { ops, data: dangling(ops), len: 0, capacity: 0, pool: None };
        block.grow_to(capacity);
        block
    }

    pub(crate) fn ops(&self) -> Ops {
        self.ops
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Rows that there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Makes room for `additional` more rows, at least doubling, but to no more than `max` unless needed.
    pub(crate) fn reserve(&mut self, additional: usize, max: usize) {
        let needed = self.len() + additional;
        if needed > self.capacity as usize {
            self.grow_to(needed.max((2 * self.capacity as usize).clamp(8, max.max(8))));
        }
    }

    fn grow_to(&mut self, capacity: usize) {
        assert!(capacity <= u32::MAX as usize, "a block holds less than 2^32 rows");
        if capacity <= self.capacity as usize {
            return;
        }
        // Few different sizes, so that few pools serve them all.
        let capacity =
            if self.ops.size() * capacity < SLOT_BYTES_MIN { capacity } else { capacity.next_power_of_two() };
        if self.ops.size() > 0 {
            let new = layout(self.ops, capacity);
            let pool = (new.size() >= SLOT_BYTES_MIN)
                .then(|| Pool::of(PoolKey { row: self.ops.type_id(), slot: new }));
            let data = match pool {
                Some(pool) => pool.allocate(),
                // SAFETY: the layout has a size above zero.
                None => NonNull::new(unsafe { alloc(new) }).unwrap_or_else(|| handle_alloc_error(new)),
            };
            // SAFETY: the new memory is another allocation and larger; the rows move, and the old memory, which is
            // freed next, is not read again.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.data.as_ptr(),
                    data.as_ptr(),
                    self.len() * self.ops.size(),
                );
            }
            self.free_memory();
            (self.data, self.pool) = (data, pool);
        }
        self.capacity = capacity as u32;
        if let Some(bytes) = self.counted() {
            IN_USE.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The bytes that [`memory_in_use`] counts for this block. Single rows are left out: they are values on their
    /// way from one place to another, and two atomic operations for each would be seen in every spawn.
    fn counted(&self) -> Option<u64> {
        (self.capacity > 1).then(|| u64::from(self.capacity) * self.ops.size() as u64)
    }

    /// Gives the memory back; the rows in it are moved or dropped already.
    fn free_memory(&mut self) {
        if let Some(bytes) = self.counted() {
            IN_USE.fetch_sub(bytes, Ordering::Relaxed);
        }
        if self.ops.size() > 0 && self.capacity > 0 {
            // SAFETY: allocated in `grow_to`, from this pool or with this layout, and not used after this.
            unsafe {
                match self.pool {
                    Some(pool) => pool.free(self.data),
                    None => dealloc(self.data.as_ptr(), layout(self.ops, self.capacity as usize)),
                }
            }
        }
    }

    /// Pointer to row `row`, which must be below the capacity.
    pub(super) fn at(&self, row: usize) -> *mut u8 {
        debug_assert!(row <= self.capacity as usize);
        // SAFETY: within (or one past the end of) the allocation; for rows of size zero the offset is zero.
        unsafe { self.data.as_ptr().add(row * self.ops.size()) }
    }

    /// True when the rows are of type `T`.
    #[inline]
    pub(crate) fn is<T: 'static>(&self) -> bool {
        matches!(self.ops, Ops::Typed(ops) if (ops.type_id)() == TypeId::of::<T>())
    }

    #[inline]
    pub(crate) fn slice<T: 'static>(&self) -> Option<&[T]> {
        if !self.is::<T>() {
            return None;
        }
        // SAFETY: the rows are of type `T` and the first `len` are initialised.
        Some(unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast::<T>(), self.len()) })
    }

    #[inline]
    pub(crate) fn slice_mut<T: 'static>(&mut self) -> Option<&mut [T]> {
        if !self.is::<T>() {
            return None;
        }
        // SAFETY: as in `slice`, and the block is borrowed exclusively.
        Some(unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr().cast::<T>(), self.len()) })
    }

    /// The rows' memory, for plain types: their stored form.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        if !self.ops.is_plain() {
            return None;
        }
        // SAFETY: plain rows have no padding, so all bytes of the initialised rows are initialised.
        Some(unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len() * self.ops.size()) })
    }

    /// To be filled with bytes that are values only: those of other rows, or checked ones.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.ops.is_plain() {
            return None;
        }
        // SAFETY: as in `bytes`, and the block is borrowed exclusively; this module writes values only.
        Some(unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len() * self.ops.size()) })
    }

    #[inline]
    pub(crate) fn row_bytes(&self, row: usize) -> Option<&[u8]> {
        let size = self.ops.size();
        self.bytes()?.get(row * size..(row + 1) * size)
    }

    /// Drops all rows and gives the memory back.
    pub(crate) fn empty(&mut self) {
        *self = Block::new(self.ops, 0);
    }

    /// Appends a value. The block must be of `T`; a mismatch is a bug of this crate.
    pub(crate) fn push<T: Component>(&mut self, value: T, max: usize) {
        assert!(self.is::<T>(), "a block of another type");
        self.reserve(1, max);
        // SAFETY: the row type is `T`, and there is room.
        unsafe { self.at(self.len()).cast::<T>().write(value) };
        self.len += 1;
    }

    /// Appends a value from its stored form.
    pub(crate) fn push_stored(&mut self, bytes: &[u8], max: usize) -> Result<(), CodecError> {
        self.reserve(1, max);
        if self.ops.is_plain() {
            self.push_plain(bytes, 1, max)
        } else {
            let Ops::Typed(ops) = self.ops else { unreachable!("untyped rows are plain") };
            // SAFETY: there is room for one more row, of the type that `ops` describes.
            unsafe { (ops.decode)(bytes, self.at(self.len()))? };
            self.len += 1;
            Ok(())
        }
    }

    /// Appends `rows` plain values from their bytes.
    pub(crate) fn push_plain(&mut self, bytes: &[u8], rows: usize, max: usize) -> Result<(), CodecError> {
        let size = self.ops.size();
        if !self.ops.is_plain() || Some(bytes.len()) != size.checked_mul(rows) {
            return Err(CodecError::Length { expected: size.saturating_mul(rows), found: bytes.len() });
        }
        self.ops.check_plain(bytes)?;
        self.reserve(rows, max);
        // SAFETY: there is room for `rows` more rows of a plain type, of which these bytes are values; source
        // and destination are different allocations.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(self.len()), bytes.len()) };
        self.len += rows as u32;
        Ok(())
    }

    /// Appends the stored form of `row` to `out`.
    pub(crate) fn encode_row(&self, row: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
        assert!(row < self.len());
        match self.ops {
            Ops::Typed(ops) if !ops.plain => {
                // SAFETY: the row is initialised and of the type that `ops` describes.
                unsafe { (ops.encode)(self.at(row), out) }
            }
            _ => {
                out.extend_from_slice(self.row_bytes(row).unwrap_or(&[]));
                Ok(())
            }
        }
    }

    /// Appends the form of `row` that equal values share, whatever the order of their containers.
    pub(crate) fn canonical_row(&self, row: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
        assert!(row < self.len());
        match self.ops {
            // SAFETY: the row is initialised and of the type that `ops` describes.
            Ops::Typed(ops) => unsafe { (ops.canonical)(self.at(row), out) },
            Ops::Bytes(_) => self.encode_row(row, out),
        }
    }

    /// Moves the last `rows` rows to the end of `to`, in their order.
    pub(crate) fn move_last_into(&mut self, rows: usize, to: &mut Block, max: usize) {
        assert!(rows <= self.len() && self.ops.same(to.ops));
        to.reserve(rows, max);
        self.len -= rows as u32;
        // SAFETY: the rows are initialised and this block counts them no more; `to`, another allocation, has room for
        // as many of the same type. Each value is moved once.
        unsafe {
            std::ptr::copy_nonoverlapping(self.at(self.len()), to.at(to.len()), rows * self.ops.size());
        }
        to.len += rows as u32;
    }

    /// Takes the rows from `at` on out, to be dropped whenever; none where there is nothing to drop.
    pub(crate) fn split_off(&mut self, at: usize) -> Option<Block> {
        let rows = self.len().checked_sub(at).filter(|&rows| rows > 0)?;
        if self.ops.is_plain() {
            self.len = at as u32;
            None
        } else if at == 0 {
            Some(std::mem::replace(self, Block::new(self.ops, 0)))
        } else {
            let mut rest = Block::new(self.ops, rows);
            self.move_last_into(rows, &mut rest, rows);
            Some(rest)
        }
    }

    /// A block with a clone of `row` alone.
    pub(super) fn clone_row(&self, row: usize) -> Block {
        assert!(row < self.len());
        let mut block = Block::new(self.ops, 1);
        self.clone_rows_into(row, 1, &mut block);
        block
    }

    /// Frees the memory and drops no row.
    pub(super) fn forget_rows(mut self) {
        self.len = 0;
    }

    fn clone_rows_into(&self, from: usize, rows: usize, to: &mut Block) {
        debug_assert!(
            from + rows <= self.len() && to.len + rows as u32 <= to.capacity && self.ops.same(to.ops)
        );
        match self.ops {
            Ops::Typed(ops) if !ops.plain => {
                let end = to.at(to.len());
                // SAFETY: the rows are initialised, `to` has room for them, and `len` counts each as it is made.
                unsafe { (ops.clone)(self.at(from), end, rows, &mut to.len) }
            }
            _ => {
                // SAFETY: plain rows are cloned by copying their bytes; the allocations are different.
                unsafe {
                    std::ptr::copy_nonoverlapping(self.at(from), to.at(to.len()), rows * self.ops.size())
                };
                to.len += rows as u32;
            }
        }
    }

    /// Drops the rows from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len() {
            let n = self.len() - len;
            self.len = len as u32;
            if let Ops::Typed(ops) = self.ops {
                // SAFETY: these `n` rows were initialised and are no longer counted.
                unsafe { ops.drop_rows(self.at(len), n) };
            }
        }
    }

    /// Turns plain rows of bare bytes into rows of a type, which has the same size. False when they are no bare bytes.
    ///
    /// # Errors
    /// When the bytes of a row are no value of the type.
    pub(crate) fn adopt(&mut self, ops: Ops) -> Result<bool, CodecError> {
        let fits = matches!((self.ops, ops), (Ops::Bytes(size), Ops::Typed(t))
            if t.plain && t.size == size as usize && t.align <= BLOCK_ALIGN);
        if fits {
            ops.check_plain(self.bytes().unwrap_or(&[]))?;
            self.ops = ops;
        }
        Ok(fits)
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        let mut block = Block::new(self.ops, self.capacity as usize);
        self.clone_rows_into(0, self.len(), &mut block);
        block
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.truncate(0);
        self.free_memory();
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} rows of {} bytes)", self.len, self.ops.size())
    }
}

fn align(ops: Ops) -> usize {
    match ops {
        Ops::Typed(ops) => ops.align.max(BLOCK_ALIGN),
        Ops::Bytes(_) => BLOCK_ALIGN,
    }
}

fn layout(ops: Ops, capacity: usize) -> Layout {
    ops.size()
        .checked_mul(capacity)
        .and_then(|size| Layout::from_size_align(size, align(ops)).ok())
        .unwrap_or_else(|| panic!("{capacity} rows of {} bytes are more than the address space", ops.size()))
}

/// A well-aligned pointer for a block without an allocation.
fn dangling(ops: Ops) -> NonNull<u8> {
    // The alignment is a power of two and never zero.
    NonNull::new(std::ptr::without_provenance_mut(align(ops))).unwrap_or(NonNull::dangling())
}
