//! What a component needs in place of the standard library, which imports WASI:
//! an allocator, a panic handler and the allocation function of the canonical
//! ABI. Used by `use freestanding as _;`.

#![no_std]

extern crate alloc;

use alloc::alloc::{Layout, alloc, realloc};
use core::panic::PanicInfo;
use core::ptr;
use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Where the runtime puts what it hands to the component.
///
/// # Safety
///
/// As for [`realloc`], but for `old_len` 0, which allocates.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_len: usize,
    align: usize,
    new_len: usize,
) -> *mut u8 {
    if new_len == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: the canonical ABI passes an alignment that is a power of two,
    // lengths that fit the memory, and what it got from here.
    let new = unsafe {
        match old_len {
            0 => alloc(Layout::from_size_align_unchecked(new_len, align)),
            _ => realloc(
                old,
                Layout::from_size_align_unchecked(old_len, align),
                new_len,
            ),
        }
    };
    assert!(!new.is_null());
    new
}

// `memcmp` and its like, to which the compiler resorts on its own.
#[link(name = "c")]
unsafe extern "C" {}
