//! The packages of Python that lock by `fcntl`, unmodified: each excludes in a component the same package in a
//! native process, and the other way around. A guest of another world, so it is none of
//! [`LANGUAGES`](super::LANGUAGES).

use std::path::Path;
use std::process::Command;

use super::{Language, python};
use crate::toolchain::Toolchain;
use crate::{root, run};

/// The guest.
pub const LANGUAGE: Language = Language {
    name: "python_packages",
    sources: &[
        "guest/python/locket",
        "tests/polyglot/src/languages/python.rs",
        PROGRAM,
    ],
    toolchains: &[&python::COMPONENTIZE_PY, &PACKAGES],
    build: |scratch| {
        let wit = root().join(PROGRAM).join("world.wit");
        let packages = PACKAGES.folder()?;
        let folders = [Path::new(PROGRAM), &packages];
        python::componentize(
            &wit,
            "locket:packages/packages@0.1.0",
            "app",
            &folders,
            scratch,
        )
    },
};

/// Where the program is, which runs in a component and natively.
pub const PROGRAM: &str = "tests/polyglot/guests/python-packages";

/// The packages, for both.
pub const PACKAGES: Toolchain = Toolchain {
    name: "python-packages",
    packages: &[
        "fasteners==0.20",
        "filelock==4.2.11",
        "portalocker==4.4.2",
        "zc.lockfile==4.0",
    ],
    install: |packages, folder| {
        let python = python::COMPONENTIZE_PY.folder()?.join("bin/python");
        run(Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            // zc.lockfile declares setuptools, but does not import it.
            .args(["--no-deps", "--target"])
            .arg(folder)
            .args(packages))
    },
};
