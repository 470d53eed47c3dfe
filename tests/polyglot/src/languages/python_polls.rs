//! Python that waits in tasks, on the event loop of the package: WASI 0.2. A guest of another world,
//! so it is none of [`LANGUAGES`](super::LANGUAGES).

use super::{Language, python};

/// The guest.
pub const LANGUAGE: Language = Language {
    name: "python_polls",
    sources: &[
        "guest/python/locket",
        "tests/polyglot/src/languages/python.rs",
        python::TASKS,
    ],
    toolchains: &[&python::COMPONENTIZE_PY],
    build: |scratch| python::tasks("polls", scratch),
};
