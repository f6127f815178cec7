//! Where blocks of full chunks get their memory: slabs of neighbouring slots, one family of slabs for each row
//! type and size, so that consecutive chunks of a column lie next to each other.
//!
//! Two reasons, both measured. A loop over a column whose blocks are scattered pays about a microsecond a block,
//! twice the work itself, until the processor's prefetcher has found the new stream (`docs/architecture.md`). And a
//! tick that copies every block of a column would ask the operating system for fresh pages each time.
//!
//! Blocks are freed by background threads, too, which a snapshot has let go of them. They run at a low priority, so the
//! writer must never wait for one: [`Pool::free`] only pushes onto a list, whoever allocates takes from it, and where the slabs are locked by
//! somebody who does not come on, a block gets a slab of its own.

use std::alloc::Layout;
use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustc_hash::FxHashMap;

use super::memory;

/// Smaller blocks come from the global allocator: they are of chunks that are still growing.
pub(super) const SLOT_BYTES_MIN: usize = 4096;
/// Slots of a slab: the bits of its map of free slots. The first slab of a pool has fewer, since most row types of
/// most programs have few rows.
const SLOTS_FIRST: u32 = 4;
const SLOTS_MAX: u32 = 64;
/// Bytes of a slab, but for slots that are larger themselves: the system gives none that is larger than its memory.
const SLAB_BYTES_MAX: usize = 4 << 20;
/// How often a lock is tried that others have for some microseconds: for about a hundred of them.
const LOCK_TRIES: u32 = 2000;
/// Freed blocks that an allocation puts back into their slabs at most, so that its time is bounded.
const SETTLED_AT_ONCE: usize = 32;
/// Freed blocks that nobody has allocated since, and their bytes: whoever frees the next one settles them all, so that memory goes back to
/// the system.
const UNSETTLED_MAX: usize = 4096;
const UNSETTLED_BYTES_MAX: usize = 128 << 20;

/// What has a pool of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    /// `None` for rows whose Rust type is unknown.
    pub(super) row: Option<TypeId>,
    pub(super) slot: Layout,
}

/// The slabs of one row type and size. Lives as long as the process, as its type does.
pub(super) struct Pool {
    slot: Layout,
    slabs: Mutex<Slabs>,
    /// Blocks freed and not yet back in their slabs: a list through their first bytes.
    freed: AtomicPtr<u8>,
    unsettled: AtomicUsize,
    /// Slabs made while the others were locked, and not yet among them.
    apart: AtomicPtr<Apart>,
}

/// A list of slabs.
struct Apart {
    slab: Slab,
    next: *mut Apart,
}

#[derive(Default)]
struct Slabs {
    /// By address.
    all: BTreeMap<usize, Slab>,
    /// Addresses of those with free slots.
    open: BTreeSet<usize>,
    /// Addresses of those without a slot in use.
    empty: BTreeSet<usize>,
    /// Where the slot given out last lies: the next one comes after it, so that what is allocated in a row lies
    /// in a row.
    cursor: usize,
    /// Taken off [`Pool::freed`], and still to be put back.
    taken: Freed,
}

/// A list of freed blocks.
struct Freed(*mut u8);

// SAFETY: the blocks belong to whoever has the list.
unsafe impl Send for Freed {}

impl Default for Freed {
    fn default() -> Self {
        Freed(null_mut())
    }
}

struct Slab {
    memory: NonNull<u8>,
    slots: u32,
    /// One bit for each free slot.
    free: u64,
}

// SAFETY: a slab is memory that nobody else refers to, but for the slots given out, whose owners answer for them.
unsafe impl Send for Slab {}

/// Slots of a slab.
fn slots_of(slot: Layout) -> u32 {
    ((SLAB_BYTES_MAX / slot.size()) as u32).clamp(1, SLOTS_MAX)
}

/// As many bits.
fn all_free(slots: u32) -> u64 {
    u64::MAX >> (SLOTS_MAX - slots)
}

impl Slab {
    fn layout(slot: Layout, slots: u32) -> Layout {
        slot.size()
            .checked_mul(slots as usize)
            .and_then(|size| Layout::from_size_align(size, slot.align()).ok())
            .unwrap_or_else(|| {
                panic!("{slots} blocks of {} bytes are more than the address space", slot.size())
            })
    }

    fn is_empty(&self) -> bool {
        self.free.count_ones() == self.slots
    }

    /// Gives the memory of an empty slab, which is on no list any more, back to the system.
    fn release(self, slot: Layout) {
        debug_assert!(self.is_empty());
        // SAFETY: allocated in `allocate` with this layout; no slot of it is in use.
        unsafe { memory::free(self.memory, Slab::layout(slot, self.slots)) };
    }
}

impl Pool {
    /// The pool for `key`, made on first use.
    pub(super) fn of(key: PoolKey) -> &'static Pool {
        static POOLS: Mutex<Option<FxHashMap<PoolKey, &'static Pool>>> = Mutex::new(None);
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.get_or_insert_default().entry(key).or_insert_with(|| {
            let slot =
                Layout::from_size_align(key.slot.size().next_multiple_of(key.slot.align()), key.slot.align());
            let slot =
                slot.unwrap_or_else(|_| panic!("{} bytes are more than the address space", key.slot.size()));
            Box::leak(Box::new(Pool {
                slot,
                slabs: Mutex::default(),
                freed: AtomicPtr::new(null_mut()),
                unsettled: AtomicUsize::new(0),
                apart: AtomicPtr::new(null_mut()),
            }))
        })
    }

    /// The slabs, if they are not locked, or will not be in a moment.
    fn slabs(&self) -> Option<MutexGuard<'_, Slabs>> {
        for _ in 0..LOCK_TRIES {
            match self.slabs.try_lock() {
                Ok(slabs) => return Some(slabs),
                // A panic (of the allocator) leaves the lists as they were.
                Err(TryLockError::Poisoned(slabs)) => return Some(slabs.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    /// Uninitialised memory of the slot's layout.
    pub(super) fn allocate(&self) -> NonNull<u8> {
        let size = self.slot.size();
        let Some(mut slabs) = self.slabs() else { return self.allocate_apart() };
        // Slabs that become empty by this are wanted next, and stay.
        self.settle(&mut slabs, SETTLED_AT_ONCE);
        let (base, free) = slabs.next_free(size).unwrap_or_else(|| {
            let slots =
                if slabs.all.is_empty() { slots_of(self.slot).min(SLOTS_FIRST) } else { slots_of(self.slot) };
            let memory = memory::allocate(Slab::layout(self.slot, slots));
            (slabs.add(Slab { memory, slots, free: all_free(slots) }), u64::MAX)
        });
        slabs.take(base, free, size)
    }

    /// A block that is all of its slab.
    fn allocate_apart(&self) -> NonNull<u8> {
        let memory = memory::allocate(Slab::layout(self.slot, 1));
        let apart =
            Box::into_raw(Box::new(Apart { slab: Slab { memory, slots: 1, free: 0 }, next: null_mut() }));
        let mut head = self.apart.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else refers to it before it is on the list.
            unsafe { (*apart).next = head };
            match self.apart.compare_exchange_weak(head, apart, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return memory,
                Err(now) => head = now,
            }
        }
    }

    /// Takes back what [`Pool::allocate`] gave. Waits for nobody.
    ///
    /// SAFETY: `memory` is from this pool, and nobody refers to it any more.
    pub(super) unsafe fn free(&self, memory: NonNull<u8>) {
        let mut head = self.freed.load(Ordering::Relaxed);
        loop {
            // SAFETY: the block is this list's alone from here on, and has at least `SLOT_BYTES_MIN` bytes, aligned to a cache line.
            unsafe { memory.cast::<*mut u8>().write(head) };
            let pushed =
                self.freed.compare_exchange_weak(head, memory.as_ptr(), Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        let most = UNSETTLED_MAX.min(UNSETTLED_BYTES_MAX / self.slot.size());
        if self.unsettled.fetch_add(1, Ordering::Relaxed) < most {
            return;
        }
        // A few at a time: the writer must not wait for a thread of low priority that has many to put back.
        for _ in 0..=UNSETTLED_MAX / SETTLED_AT_ONCE {
            // Whoever has the lock settles some, too.
            let Ok(mut slabs) = self.slabs.try_lock() else { return };
            self.settle(&mut slabs, SETTLED_AT_ONCE);
            let surplus = slabs.take_surplus(SETTLED_AT_ONCE);
            drop(slabs);
            surplus.into_iter().for_each(|slab| slab.release(self.slot));
        }
    }

    /// Puts up to `most` freed blocks back into their slabs.
    fn settle(&self, slabs: &mut Slabs, most: usize) {
        for _ in 0..most {
            if slabs.taken.0.is_null() {
                // Everything at once: nobody else takes from the list, so no block on it can come back meanwhile.
                slabs.taken.0 = self.freed.swap(null_mut(), Ordering::Acquire);
                // After that: the slab of each block that was on the list is among them.
                let mut apart = self.apart.swap(null_mut(), Ordering::Acquire);
                while !apart.is_null() {
                    // SAFETY: from `allocate_apart`, and on no list any more.
                    let Apart { slab, next } = *unsafe { Box::from_raw(apart) };
                    slabs.add(slab);
                    apart = next;
                }
            }
            let Some(block) = NonNull::new(slabs.taken.0) else { return };
            // SAFETY: written by `free`, before the block was put on the list.
            slabs.taken.0 = unsafe { block.cast::<*mut u8>().read() };
            self.unsettled.fetch_sub(1, Ordering::Relaxed);
            slabs.put_back(block.addr().get(), self.slot.size());
        }
    }
}

impl Slabs {
    /// Where the next block is to lie: the slab of the cursor with its free slots after it, else the next slab that has one, round about.
    fn next_free(&self, size: usize) -> Option<(usize, u64)> {
        let after_cursor = self.all.range(..=self.cursor).next_back().and_then(|(&base, slab)| {
            let slot = (self.cursor - base) / size + 1;
            let mask = u32::try_from(slot).ok().and_then(|slot| u64::MAX.checked_shl(slot)).unwrap_or(0);
            (slab.free & mask != 0).then_some((base, mask))
        });
        after_cursor.or_else(|| {
            let next = self.open.range(self.cursor + 1..).next().or_else(|| self.open.first());
            next.map(|&base| (base, u64::MAX))
        })
    }

    /// Gives out the first free one of `slots` in the slab at `base`.
    fn take(&mut self, base: usize, slots: u64, size: usize) -> NonNull<u8> {
        let Some(slab) = self.all.get_mut(&base) else { unreachable!("every open slab is among all") };
        self.empty.remove(&base);
        let slot = (slab.free & slots).trailing_zeros();
        slab.free &= !(1 << slot);
        if slab.free == 0 {
            self.open.remove(&base);
        }
        self.cursor = base + slot as usize * size;
        // SAFETY: a set bit of `free` is a slot within the slab.
        unsafe { slab.memory.add(slot as usize * size) }
    }

    /// The slot at this address is free.
    fn put_back(&mut self, address: usize, size: usize) {
        let Some((&base, slab)) = self.all.range_mut(..=address).next_back() else {
            unreachable!("the block is of no slab of its pool")
        };
        let slot = (address - base) / size;
        debug_assert!(slot < slab.slots as usize && slab.free & (1 << slot) == 0, "a block is freed twice");
        slab.free |= 1 << slot;
        self.open.insert(base);
        if slab.is_empty() {
            self.empty.insert(base);
        }
    }

    /// Adds a new slab, and says where it lies.
    fn add(&mut self, slab: Slab) -> usize {
        let base = slab.memory.addr().get();
        if slab.free != 0 {
            self.open.insert(base);
            self.empty.insert(base);
        }
        self.all.insert(base, slab);
        base
    }

    /// Takes out the empty slabs that go back to the system. A tick frees as many blocks as it allocates, so as many slabs are kept in
    /// store as are in use.
    fn take_surplus(&mut self, most: usize) -> Vec<Slab> {
        let mut surplus = Vec::new();
        while 2 * self.empty.len() > self.all.len() && surplus.len() < most {
            let Some(base) = self.empty.pop_last() else { break };
            self.open.remove(&base);
            surplus.extend(self.all.remove(&base));
        }
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Marker;

    fn pool() -> &'static Pool {
        Pool::of(PoolKey {
            row: Some(TypeId::of::<Marker>()),
            slot: Layout::from_size_align(5000, 64).unwrap(),
        })
    }

    fn settled(pool: &Pool) -> MutexGuard<'_, Slabs> {
        let mut slabs = pool.slabs().unwrap();
        pool.settle(&mut slabs, usize::MAX);
        slabs
    }

    #[test]
    fn blocks_freed_by_other_threads_come_back_once_and_surplus_goes_back_to_the_system() {
        struct Other;
        let pool = Pool::of(PoolKey {
            row: Some(TypeId::of::<Other>()),
            slot: Layout::from_size_align(SLOT_BYTES_MIN, 64).unwrap(),
        });
        let rounds = 4;
        let (sender, receiver) = std::sync::mpsc::sync_channel::<usize>(64);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for address in receiver {
                    let block = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address)).unwrap();
                    // SAFETY: the sender has given it up.
                    unsafe {
                        assert_eq!(block.add(100).read() as usize, address >> 12 & 0xff);
                        pool.free(block);
                    }
                }
            });
            for i in 0..rounds * 2 * UNSETTLED_MAX {
                let block = pool.allocate();
                let address = block.expose_provenance().get();
                // SAFETY: the slot has 4,096 bytes, and was given to nobody else.
                unsafe { block.add(100).write((address >> 12 & 0xff) as u8) };
                sender.send(address).unwrap();
                assert!(pool.slabs().unwrap().all.len() < 2 * UNSETTLED_MAX, "memory grows at {i}");
            }
            drop(sender);
        });
        let held: Vec<_> = (0..3 * UNSETTLED_MAX).map(|_| pool.allocate()).collect();
        let most = pool.slabs().unwrap().all.len();
        // SAFETY: each came from `allocate` and is given back once.
        held.iter().for_each(|&block| unsafe { pool.free(block) });
        assert!(pool.slabs().unwrap().all.len() < most, "nothing was given back");
    }

    #[test]
    fn nobody_waits_for_who_has_the_slabs_locked_and_does_not_come_on() {
        struct Locked;
        let slot = Layout::from_size_align(SLOT_BYTES_MIN, 64).unwrap();
        let pool = Pool::of(PoolKey { row: Some(TypeId::of::<Locked>()), slot });
        let mut blocks = vec![pool.allocate()];
        let slabs = pool.slabs().unwrap();
        blocks.extend((0..3).map(|_| pool.allocate()));
        // SAFETY: each came from `allocate` and is given back once, and the slot has as many bytes.
        blocks.iter().for_each(|&block| unsafe {
            block.write_bytes(1, SLOT_BYTES_MIN);
            pool.free(block);
        });
        drop(slabs);
        let slabs = settled(pool);
        assert_eq!(slabs.all.len(), 4);
        assert!(slabs.all.values().all(Slab::is_empty));
    }

    #[test]
    fn large_blocks_are_neither_mapped_nor_kept_by_the_dozen() {
        struct Large;
        let slot = Layout::from_size_align(64 << 20, 64).unwrap();
        let pool = Pool::of(PoolKey { row: Some(TypeId::of::<Large>()), slot });
        // Nothing is written to them, so they are address space alone.
        let blocks: Vec<_> = (0..20).map(|_| pool.allocate()).collect();
        assert_eq!(pool.slabs().unwrap().all.len(), 20);
        // SAFETY: each came from `allocate` and is given back once.
        blocks.iter().for_each(|&block| unsafe { pool.free(block) });
        // Two that nobody has put back yet, and as many in store.
        assert!(pool.slabs().unwrap().all.len() <= 4, "{} are kept", pool.slabs().unwrap().all.len());
    }

    #[test]
    fn what_is_allocated_in_a_row_lies_in_a_row_and_comes_back() {
        let pool = pool();
        let first: Vec<_> = (0..600).map(|_| pool.allocate()).collect();
        let mut distinct: Vec<_> = first.iter().map(|p| p.addr().get()).collect();
        assert!(distinct.iter().all(|p| p % 64 == 0));
        let in_a_row = distinct.windows(2).filter(|w| w[1] == w[0] + 5056).count();
        assert!(in_a_row >= 600 - 1 - 600 / SLOTS_MAX as usize - 2, "{in_a_row}");
        distinct.sort_unstable();
        assert!(distinct.windows(2).all(|w| w[1] >= w[0] + 5056));
        for block in &first {
            // SAFETY: the slot has 5,000 bytes, and was given to nobody else.
            unsafe { block.write_bytes(0xab, 5000) };
        }
        // A second generation, then the first is freed, then a third takes its place, again in a row.
        let second: Vec<_> = (0..600).map(|_| pool.allocate()).collect();
        // SAFETY: each came from `allocate` and is given back once.
        first.iter().for_each(|&block| unsafe { pool.free(block) });
        let slabs = settled(pool).all.len();
        let third: Vec<_> = (0..600).map(|_| pool.allocate()).collect();
        assert_eq!(pool.slabs().unwrap().all.len(), slabs, "freed slots are used again");
        let in_a_row = third.windows(2).filter(|w| w[1].addr().get() == w[0].addr().get() + 5056).count();
        assert!(in_a_row >= 600 - 1 - 600 / SLOTS_MAX as usize - 3, "{in_a_row}");
        // SAFETY: as above.
        second.iter().chain(&third).for_each(|&block| unsafe { pool.free(block) });
        let mut slabs = settled(pool);
        let surplus = slabs.take_surplus(usize::MAX);
        assert_eq!((slabs.all.len(), slabs.open.len()), (0, 0), "nothing in use, so nothing is kept");
        drop(slabs);
        surplus.into_iter().for_each(|slab| slab.release(pool.slot));
    }
}
