//! The tests in Python of what locket.py and pylockfile promise. A guest of another world, so it is
//! none of [`LANGUAGES`](super::LANGUAGES).

use super::{Language, python};
use crate::root;

/// The guest that runs them.
pub const LANGUAGE: Language = Language {
    name: "python_contract",
    sources: &[
        "guest/python/locket",
        "tests/polyglot/src/languages/python.rs",
        TESTS,
    ],
    toolchains: &[&python::COMPONENTIZE_PY],
    build: |scratch| {
        let component = format!("{TESTS}/component");
        let wit = root().join(TESTS).join("world.wit");
        let world = "locket:contract/contract@0.1.0";
        python::componentize(&wit, world, "app", &[TESTS, &component], scratch)
    },
};

/// Where they are.
pub const TESTS: &str = "tests/polyglot/guests/python-contract";
