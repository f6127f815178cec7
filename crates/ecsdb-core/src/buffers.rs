//! Buffers that are kept from one use to the next.

/// Bytes of a buffer that are kept; the memory of a burst beyond is given back.
pub(crate) const KEPT_BYTES: usize = 1 << 20;

/// Empties a buffer.
#[inline]
pub(crate) fn reset<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    if buffer.capacity() * size_of::<T>() > KEPT_BYTES {
        buffer.shrink_to(KEPT_BYTES / size_of::<T>().max(1));
    }
}

/// Uses in a row that must have done with a quarter of a list before any of it is given back.
const IDLE_MAX: u32 = 64;

/// How long a list whose entries are kept from one use to the next has been larger than its uses.
#[derive(Default)]
pub(crate) struct Idle(u32);

impl Idle {
    /// After a use of so many of the entries: gives back a few of those that the last uses had no need for, `at_once` and a thousandth of all, but for so
    /// many that are `kept`: what a burst has left is nobody's pause.
    pub(crate) fn give_back<T>(&mut self, entries: &mut Vec<T>, used: usize, kept: usize, at_once: usize) {
        if entries.len() <= kept || used * 4 > entries.len() {
            self.0 = 0;
        } else if self.0 < IDLE_MAX {
            self.0 += 1;
        } else {
            entries.truncate(kept.max(entries.len() - at_once - entries.len() / 1024));
        }
    }
}
