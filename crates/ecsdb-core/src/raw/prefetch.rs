//! A hint to the processor, where there is one.

/// Has `value`, of at most two cache lines, brought into the cache while other work goes on.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, a prefetch reads nothing as far as the program can tell, and the last byte is
    // within the value (or just before an empty one, which does no harm either).
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(value).cast::<i8>();
        _mm_prefetch::<_MM_HINT_T0>(first);
        _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(size_of_val(value)).wrapping_sub(1));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
