//! Taking slots out of the middle of the free list, when change sets are applied.
//!
//! The list is linked one way. That is enough for transactions, which take its head, and for their replay, which takes
//! what they took. A restored state takes slots from all over the list: once the search for predecessors gets
//! long, all of them are noted down, so that n slots cost O(n + free slots) and not their product.

use crate::index::{EntityIndex, NONE};

/// Steps of searching, over a change set, before the predecessors are noted down.
const STEPS_MAX: usize = 1024;

/// The predecessors of the free slots, as far as somebody had to ask for them.
#[derive(Debug, Default)]
pub(crate) struct Backlinks {
    steps: usize,
    /// By slot; [`NONE`] for the head and for what is not in the list. Empty until it is worth its while.
    before: Vec<u32>,
}

impl Backlinks {
    /// The slot before `slot`, which is in the list and not its head.
    pub(crate) fn before(&mut self, index: &EntityIndex, slot: u32) -> Option<u32> {
        if self.before.is_empty() {
            let mut before = NONE;
            for (at, _) in index.free_list().take(STEPS_MAX.saturating_sub(self.steps)) {
                if at == slot {
                    return Some(before);
                }
                before = at;
                self.steps += 1;
            }
            self.before.resize(index.len() as usize, NONE);
            before = NONE;
            for (at, _) in index.free_list() {
                self.before[at as usize] = before;
                before = at;
            }
        }
        self.before.get(slot as usize).copied().filter(|&before| before != NONE)
    }

    /// Notes that `before` now comes before `slot`.
    pub(crate) fn link(&mut self, before: u32, slot: u32) {
        if slot == NONE || self.before.is_empty() {
            return;
        }
        if self.before.len() <= slot as usize {
            self.before.resize(slot as usize + 1, NONE);
        }
        self.before[slot as usize] = before;
    }
}
