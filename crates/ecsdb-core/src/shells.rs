//! Blocks without memory, which are used again: what a block that is copied on write has besides its rows.
//!
//! While a snapshot is written, the writer copies each block that it changes, and the snapshot's thread drops the old one. Its rows go back to the
//! pool. The rest, some sixty bytes with the reference count, would go to the global allocator, and that of glibc leaves it to the thread that
//! allocated them to merge what another one has freed: tens of thousands within one of the writer's next allocations, for milliseconds. So these
//! go back to the writer instead.

use std::sync::Mutex;

use triomphe::Arc;

use crate::raw::Block;

/// What is kept at most, about four megabytes; more goes to the allocator.
const SHELLS_MAX: usize = 1 << 16;

/// Whoever has it may be a thread that gets a core last: nobody waits for it.
static SHELLS: Mutex<Vec<Arc<Block>>> = Mutex::new(Vec::new());

/// The block for writing in place: copied first if somebody else has it, too.
#[inline]
pub(crate) fn unshared(block: &mut Arc<Block>) -> &mut Block {
    if !block.is_unique() {
        copy_into_shell(block);
    }
    Arc::make_mut(block)
}

fn copy_into_shell(block: &mut Arc<Block>) {
    let Some(mut shell) = SHELLS.try_lock().ok().and_then(|mut shells| shells.pop()) else { return };
    // Whoever gave it may be about to let go of it.
    if let Some(empty) = Arc::get_mut(&mut shell) {
        *empty = Block::clone(block);
        *block = shell;
    }
}

/// Takes back what nobody else has, of a block that is about to be dropped.
pub(crate) fn give_back(block: &mut Arc<Block>) {
    if let Some(last) = Arc::get_mut(block) {
        last.empty();
        if let Ok(mut shells) = SHELLS.try_lock()
            && shells.len() < SHELLS_MAX
        {
            shells.push(block.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Ops;

    fn block(value: u8) -> Arc<Block> {
        let mut block = Block::new(Ops::Bytes(1), 1);
        block.push_plain(&[value], 1, 8).unwrap();
        Arc::new(block)
    }

    #[test]
    fn a_block_is_copied_whatever_shells_there_are_and_what_was_shared_stays() {
        for round in 0..100 {
            let mut writers = block(round);
            let mut views = writers.clone();
            unshared(&mut writers).push_plain(&[1], 1, 8).unwrap();
            assert_eq!(views.bytes(), Some(&[round][..]));
            assert_eq!(writers.bytes(), Some(&[round, 1][..]));
            give_back(&mut views);
            drop(views);
            // Shared: nothing is taken of it.
            let mut other = writers.clone();
            give_back(&mut other);
            assert_eq!(writers.bytes(), Some(&[round, 1][..]));
        }
    }

    #[test]
    fn many_threads_give_back_and_copy_at_once() {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let mut writers = block(thread);
                        let mut views = writers.clone();
                        unshared(&mut writers).push_plain(&[thread], 1, 8).unwrap();
                        give_back(&mut views);
                        assert_eq!(writers.bytes(), Some(&[thread, thread][..]));
                    }
                });
            }
        });
    }
}
