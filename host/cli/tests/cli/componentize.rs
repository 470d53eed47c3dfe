//! `locket componentize`: components of core modules, and the reasons for refusing others.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{Dir, code, locket, output};

/// A program of WASI 0.1, which opens a lock.
const PROGRAM: &str = r#"(module
    (import "locket:lock/api@0.1.0" "[static]lock-file.open"
        (func $open (param i32 i32 i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "/locks/a")
    (global $free (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        global.get $free
        (global.set $free (i32.add (global.get $free) (i32.const 65536)))
        (drop (memory.grow (i32.const 2))))
    (func (export "_start")
        (call $open (i32.const 0) (i32.const 8) (i32.const 16))
        (call $exit (i32.load8_u (i32.const 16)))))"#;

const WORLD: &str = "package example:job;\nworld job {\n  import locket:lock/api@0.1.0;\n}\n";

fn componentize(dir: &Dir, options: &[&str], module: &Path) -> Output {
    let mut componentize = locket(&["componentize", "-o"]);
    componentize.arg(dir.path("out.wasm")).args(options);
    componentize.arg(module);
    output(componentize)
}

fn module(dir: &Dir, text: &str) -> PathBuf {
    dir.write("module.wasm", wat::parse_str(text).unwrap())
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, says: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in says {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_program_in_a_world_becomes_a_command() {
    let dir = Dir::new();
    let world = dir.write("job.wit", WORLD);
    let made = componentize(
        &dir,
        &["--wit", world.to_str().unwrap()],
        &module(&dir, PROGRAM),
    );
    assert!(made.status.success(), "{made:?}");
    let grant = format!("{}::/locks", dir.path("").display());
    let program = dir.path("out.wasm").display().to_string();
    assert_eq!(code(locket(&["run", "--lock-dir", &grant, &program])), 0);
    assert!(dir.path("a").exists());
    assert_eq!(code(locket(&["run", &program])), 1);
}

#[test]
fn what_cannot_become_a_component_is_refused_with_the_reason() {
    let dir = Dir::new();
    let missing = dir.path("missing.wasm");
    assert_fails(
        &componentize(&dir, &[], &missing),
        66,
        &["cannot read `", "missing.wasm"],
    );
    let options = ["--wit", missing.to_str().unwrap()];
    assert_fails(
        &componentize(&dir, &options, &module(&dir, PROGRAM)),
        66,
        &["cannot read `", "missing.wasm"],
    );
    let text = dir.write("module.wasm", "(module)");
    assert_fails(
        &componentize(&dir, &[], &text),
        65,
        &["module.wasm", "it is not WebAssembly"],
    );
    let component = dir.write("module.wasm", wat::parse_str("(component)").unwrap());
    assert_fails(
        &componentize(&dir, &[], &component),
        65,
        &["it is a component already"],
    );
    let program = module(&dir, PROGRAM);
    assert_fails(
        &componentize(&dir, &[], &program),
        65,
        &["locket:lock/api@0.1.0", "--wit"],
    );
    let world = dir.write("job.wit", WORLD.replace("api", "apo"));
    assert_fails(
        &componentize(&dir, &["--wit", world.to_str().unwrap()], &program),
        65,
        &["apo"],
    );
    assert!(!dir.path("out.wasm").exists());

    // What stands in the way of the output is a directory.
    std::fs::create_dir(dir.path("out.wasm")).unwrap();
    let made = componentize(&dir, &["--wit", world_of(&dir).as_str()], &program);
    assert_fails(&made, 66, &["cannot write `", "out.wasm"]);
}

fn world_of(dir: &Dir) -> String {
    dir.write("job.wit", WORLD).display().to_string()
}
