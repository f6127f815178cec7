//! Large pieces of memory, straight from the operating system where that is known how: they must not grow and shrink the heap, since
//! an allocator that gives megabytes back does so under a lock that the application's threads need for their small allocations.

use std::alloc::Layout;
use std::ptr::NonNull;

/// What the system aligns to at least.
#[cfg(target_os = "linux")]
const PAGE: usize = 4096;

/// Uninitialised or zeroed memory of this layout, whose size is above zero.
pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
    #[cfg(target_os = "linux")]
    if layout.align() <= PAGE {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping, which touches no memory that there is.
        let mapped =
            unsafe { mmap_anonymous(std::ptr::null_mut(), layout.size(), protection, MapFlags::PRIVATE) };
        return mapped
            .ok()
            .and_then(|memory| NonNull::new(memory.cast()))
            .unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
    }
    // SAFETY: the caller's layout has a size above zero.
    NonNull::new(unsafe { std::alloc::alloc(layout) })
        .unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
}

/// Gives memory back.
///
/// SAFETY: it is from [`allocate`] with this layout, and nobody refers to it any more.
pub(super) unsafe fn free(memory: NonNull<u8>, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.align() <= PAGE {
        // SAFETY: mapped by `allocate` with this size.
        let unmapped = unsafe { rustix::mm::munmap(memory.as_ptr().cast(), layout.size()) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        return;
    }
    // SAFETY: from the global allocator with this layout.
    unsafe { std::alloc::dealloc(memory.as_ptr(), layout) };
}
