//! Any bytes as the owner record of an existence lock. The lock is never taken from a holder that is not
//! proven dead, by the rules as the tests have them.
#![no_main]

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the tests in it are not built"
)]
#[path = "../../tests/existence/main.rs"]
mod existence;

use existence::random_bytes::{Place, try_one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: (u8, &[u8])| {
    thread_local! {
        static PLACES: Vec<Place> = Place::all();
    }
    let (protocol, text) = text;
    PLACES.with(|places| {
        let Place { dir, lock } = &places[usize::from(protocol) % places.len()];
        try_one(dir, lock, text);
    });
});
