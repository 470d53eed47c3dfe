//! Python that waits in tasks, on the event loop of componentize-py: WASI 0.3. A guest of another
//! world, so it is none of [`LANGUAGES`](super::LANGUAGES).

use super::{Language, python};

/// The guest.
pub const LANGUAGE: Language = Language {
    name: "python_tasks",
    sources: &[
        "guest/python/locket",
        "tests/polyglot/src/languages/python.rs",
        python::TASKS,
    ],
    toolchains: &[&python::COMPONENTIZE_PY],
    build: |scratch| python::tasks("tasks", scratch),
};
