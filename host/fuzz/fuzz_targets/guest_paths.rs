//! Any string for the path of a guest, in a folder with ways that seem to lead out of it.
#![no_main]

#[path = "../../tests/guest_paths/maze.rs"]
mod maze;

use libfuzzer_sys::fuzz_target;
use locket::Protocol;

const PROTOCOLS: [Protocol; 3] = [Protocol::Native, Protocol::Soft, Protocol::Link];

fuzz_target!(|path: &str| {
    thread_local! {
        static MAZE: maze::Maze = maze::Maze::new();
    }
    MAZE.with(|maze| {
        for protocol in PROTOCOLS {
            maze.go(path, protocol);
        }
    });
});
