//! Any string as the path of a guest, in a folder with links that seem to lead out of it.
#![no_main]

#[path = "../../tests/sandbox/path_tree.rs"]
mod path_tree;

use libfuzzer_sys::fuzz_target;
use locket::Protocol;

const PROTOCOLS: [Protocol; 3] = [Protocol::Native, Protocol::Soft, Protocol::Link];

fuzz_target!(|path: &str| {
    thread_local! {
        static TREE: path_tree::PathTree = path_tree::PathTree::new();
    }
    TREE.with(|tree| {
        for protocol in PROTOCOLS {
            tree.go(path, protocol);
        }
    });
});
