//! Imports only point downwards.

use std::collections::BTreeSet;

use crate::files::{rust_files, source};

const FOLDER: &str = "host/src";

/// The modules of the library, from the top to the bottom: each may import only what is further
/// down, and from the module that defines it. A folder is one module with the file beside it.
const LIBRARY: &[&str] = &[
    "sandbox",
    "snapshot",
    "ranges",
    "acquire_all",
    "engine",
    "lock_file",
    "acquire",
    "guard",
    "handle",
    "registry",
    "territory",
    "deadlock",
    "queue",
    "services",
    "fairness",
    "ranged",
    "table",
    "waiter",
    "options",
    "lock_path",
    "backend",
    "watch",
    "object",
    "remote",
    "owner",
    "error",
    "timer",
    "sys",
    "serialize",
    "fencing",
    "protocol",
    "deadline",
    "range",
    "types",
    "sync",
];

/// The first name after each `crate::` of the `use` declarations in `source`.
fn imports(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for declaration in source.split("use crate::").skip(1) {
        let end = declaration.find(';').expect("a declaration ends");
        let path = &declaration[..end];
        let Some(list) = path.strip_prefix('{') else {
            found.extend(path.split([':', ' ']).next().map(String::from));
            continue;
        };
        let mut depth = 0;
        let mut name = String::new();
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth <= 0 => found.extend(first(&std::mem::take(&mut name))),
                _ if depth <= 0 => name.push(c),
                _ => {}
            }
        }
        found.extend(first(&name));
    }
    found
}

fn first(path: &str) -> Option<String> {
    let name = path.trim().split(':').next()?;
    (!name.is_empty()).then(|| name.into())
}

#[test]
fn imports_of_the_library_point_downwards() {
    let mut upwards = Vec::new();
    let mut seen = BTreeSet::new();
    for path in rust_files(FOLDER) {
        let inside = path.strip_prefix(FOLDER).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap();
        let module = module.strip_suffix(".rs").unwrap_or(module);
        // The root of the crate only lists what is public.
        if module == "lib" {
            continue;
        }
        let floor = |module: &str| LIBRARY.iter().position(|layer| *layer == module);
        let from = floor(module).unwrap_or_else(|| panic!("`{module}` has no layer"));
        seen.insert(LIBRARY[from]);
        for import in imports(&source(&path)) {
            match floor(&import) {
                Some(to) if to >= from => {}
                Some(_) => upwards.push(format!("{}: {import}", path.display())),
                None => upwards.push(format!("{}: {import} by way of the root", path.display())),
            }
        }
    }
    assert!(
        upwards.is_empty(),
        "imports that point upwards: {upwards:#?}"
    );
    let gone: Vec<_> = LIBRARY
        .iter()
        .filter(|layer| !seen.contains(*layer))
        .collect();
    assert!(gone.is_empty(), "layers without a module: {gone:?}");
}

#[test]
fn imports_are_read_as_they_are_written() {
    let source = "use crate::a::{B, C};\nuse crate::{d, e::{f, g},\n    h::I};\n";
    let found: Vec<_> = imports(source).into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "h"]);
}
