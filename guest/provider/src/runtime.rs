//! What takes the place of the standard library, which would import more of WASI than a host may
//! have: an allocator and a panic handler.
#![allow(unsafe_code, reason = "links to the C library")]

use core::panic::PanicInfo;
use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

// `memcmp` and its like, to which the compiler resorts on its own.
#[link(name = "c")]
unsafe extern "C" {}
