//! The guests that are kept in the repository are what their sources say.

use locket_tests::guests;
use std::fs;
use wasmtime::component::Component;
use wasmtime::{Engine, Result};

const API: &str = "locket:lock/api@0.1.0";
const API_ASYNC: &str = "locket:lock/api-async@0.1.0";
const DESCRIPTORS: &str = "locket:lock/descriptors@0.1.0";
const DESCRIPTORS_P3: &str = "locket:lock-p3/descriptors@0.1.0";
const POLL: &str = "locket:lock/poll@0.1.0";
const RANGES: &str = "locket:lock/ranges@0.1.0";
const RANGES_ASYNC: &str = "locket:lock/ranges-async@0.1.0";
const RANGES_POLL: &str = "locket:lock/ranges-poll@0.1.0";

#[test]
fn built_guests_are_fresh() -> Result<()> {
    let built = fs::read_to_string(guests::built().join("DIGEST"))?;
    assert_eq!(
        built.trim(),
        guests::digest()?,
        "the guests are older than their sources: run `{}`",
        guests::BUILD
    );
    Ok(())
}

#[test]
fn guests_import_the_lock_interfaces_they_use_and_no_others() -> Result<()> {
    for name in guests::NAMES {
        let expected: &[_] = match name {
            "poll" => &[API, POLL],
            "bench" => &[API, RANGES],
            "lent" => &[DESCRIPTORS_P3, API_ASYNC, API, RANGES_ASYNC, RANGES],
            "ranges" => &[API, DESCRIPTORS, RANGES_POLL, RANGES],
            "tasks" => &[API_ASYNC, API, RANGES_ASYNC, RANGES],
            _ => &[API],
        };
        let mut imports = imports(name)?;
        imports.retain(|import| import.starts_with("locket:"));
        assert_eq!(imports, expected, "{name}");
    }
    Ok(())
}

#[test]
fn guests_without_wasi_import_nothing_else() -> Result<()> {
    assert_eq!(imports("bare")?, [API]);
    assert_eq!(imports("bench")?, ["bench:host/empty", API, RANGES]);
    assert_eq!(imports("plugin")?, ["example:plugins/ledger@0.1.0", API]);
    Ok(())
}

/// The names of what a guest imports, sorted.
fn imports(name: &str) -> Result<Vec<String>> {
    let engine = Engine::default();
    let component = Component::from_file(&engine, guests::path(name))?;
    let mut imports: Vec<_> = component
        .component_type()
        .imports(&engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    imports.sort();
    Ok(imports)
}
