//! What must not be in the code, what must be in the packages, and what the documents of the tests
//! must say.

mod files;
mod layers;
mod promises;

use std::path::{Path, PathBuf};
use std::process::Command;

use files::rust_files;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn source(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_engine_and_the_sandbox_do_not_know_wasmtime() {
    let mut tree = vec!["tree", "-p", "locket-host", "--all-features"];
    tree.extend(["--edges", "normal", "--prefix", "none"]);
    let tree = cargo(&tree);
    assert!(
        tree.contains("locket-host") && !tree.contains("wasmtime"),
        "{tree}"
    );
}

#[test]
fn unsafe_code_is_where_the_systems_are() {
    let is_unsafe = |path: &PathBuf| {
        let mut lines = files::source(path)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        lines.retain(|line| !line.trim_start().starts_with("//"));
        lines.iter().any(|line| line.contains("unsafe {"))
    };
    let folders = ["host/src", "host/wasmtime/src", "host/cli/src"];
    let mut found: Vec<_> = folders.into_iter().flat_map(rust_files).collect();
    found.retain(is_unsafe);
    assert!(!found.is_empty());
    // The tool has to see and set how signals are handled, for which there is no safe binding.
    let places = ["host/src/sys", "host/cli/src/sys"];
    found.retain(|path| !places.iter().any(|place| path.starts_with(place)));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_native_program_gets_no_runtime_and_no_command_line() {
    let tree = cargo(&[
        "tree",
        "-p",
        "locket-host",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]);
    let mut crates: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    crates.sort_unstable();
    crates.dedup();
    let known = [
        "bitflags",
        "foldhash",
        "fs4",
        "libc",
        "linux-raw-sys",
        "locket-host",
        "rustix",
    ];
    assert!(crates.iter().all(|name| known.contains(name)), "{crates:?}");
}

#[test]
fn the_packages_carry_the_interface() {
    for package in ["locket-wasmtime", "locket-guest", "locket-cli"] {
        let interface = ["wit/lock.wit", "wit/world.wit", "wit/deps/io.wit"];
        package_has(package, &interface);
    }
}

#[test]
fn the_package_for_sqlite_carries_what_it_compiles() {
    let sources = ["c/locket_ranges.h", "c/locket.h", "vfs.c", "internal.h"];
    package_has("locket-sqlite", &sources);
}

fn package_has(package: &str, files: &[&str]) {
    let list = cargo(&["package", "-p", package, "--list", "--allow-dirty"]);
    for file in files.iter().chain(&["README.md", "LICENSE"]) {
        assert!(
            list.lines().any(|line| line == *file),
            "{package} lacks {file}:\n{list}"
        );
    }
}

#[test]
fn the_interface_is_documented_and_dated_throughout() {
    let resolve = parse();
    let packages = || {
        let packages = resolve.packages.iter().map(|(_, package)| package);
        packages.filter(|package| package.name.namespace == "locket")
    };
    let names: Vec<_> = packages().map(|package| package.name.to_string()).collect();
    assert_eq!(names, ["locket:lock@0.1.0", "locket:lock-p3@0.1.0"]);
    let mut items = 0;
    for interface in packages()
        .flat_map(|package| package.interfaces.values())
        .map(|id| &resolve.interfaces[*id])
    {
        let name = interface.name.as_deref().unwrap();
        assert!(
            interface.docs.contents.is_some(),
            "{name} has no documentation"
        );
        for function in interface.functions.values() {
            items += 1;
            assert!(
                function.docs.contents.is_some(),
                "{name}.{} is not documented",
                function.name
            );
            let dated = !matches!(function.stability, wit_parser::Stability::Unknown);
            assert!(dated, "{name}.{} lacks @since", function.name);
        }
        for (type_name, id) in &interface.types {
            items += 1;
            let ty = &resolve.types[*id];
            let dated = !matches!(ty.stability, wit_parser::Stability::Unknown);
            assert!(dated, "{name}.{type_name} lacks @since");
            use wit_parser::TypeDefKind as T;
            let parts: Vec<(&str, &wit_parser::Docs)> = match &ty.kind {
                T::Enum(e) => e.cases.iter().map(|c| (c.name.as_str(), &c.docs)).collect(),
                T::Variant(v) => v.cases.iter().map(|c| (c.name.as_str(), &c.docs)).collect(),
                T::Record(r) => r
                    .fields
                    .iter()
                    .map(|f| (f.name.as_str(), &f.docs))
                    .collect(),
                // A type of another interface is documented there.
                T::Type(wit_parser::Type::Id(_)) => continue,
                _ => Vec::new(),
            };
            assert!(
                ty.docs.contents.is_some(),
                "{name}.{type_name} is not documented"
            );
            for (part, docs) in parts {
                items += 1;
                assert!(
                    docs.contents.is_some(),
                    "{name}.{type_name}.{part} is not documented"
                );
            }
        }
    }
    println!("{items} items");
    assert!(items > 70);
}

fn parse() -> wit_parser::Resolve {
    let mut resolve = wit_parser::Resolve::default();
    for folder in ["wit", "wit/p3"] {
        resolve
            .push_dir(root().join(folder))
            .unwrap_or_else(|e| panic!("{e:?}"));
    }
    resolve
}

#[test]
fn the_base_interface_depends_on_no_wasi() {
    let source = source("wit/lock.wit");
    let (api, _) = source.split_once("interface poll").unwrap();
    assert!(
        !api.lines()
            .any(|line| !line.trim_start().starts_with("///") && line.contains("wasi:"))
    );
}
