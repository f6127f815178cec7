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
