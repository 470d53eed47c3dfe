//! Replaces the standard library, which imports WASI, in a component: an
//! allocator, a panic handler and the allocation function of the canonical ABI.
//! To use it, write `use freestanding as _;`.

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

/// Allocates memory for the values that the runtime passes to the component.
///
/// # Safety
///
/// As for [`realloc`], except that it allocates if `old_len` is 0.
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
    // lengths that fit the memory, and pointers that this function returned.
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

// Functions such as `memcmp`, to which the compiler generates calls.
#[link(name = "c")]
unsafe extern "C" {}
