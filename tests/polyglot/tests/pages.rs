//! The pages of the languages, word for word: what they tell a reader to save and to run, in empty folders
//! outside of the repository.

use build_guests::Toolchain as Rust;
use locket_tests::process::tool;
use polyglot::toolchain::{GO, Toolchain, ZIG};
use polyglot::{Language, folder, page, root};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The pages whose commands are run, and how many sessions each has.
const PAGES: [(&str, usize); 7] = [
    ("guest/README.md", 1),
    ("guest/assemblyscript/README.md", 1),
    ("guest/c/README.md", 1),
    ("guest/go/README.md", 1),
    ("guest/js/README.md", 2),
    ("guest/python/README.md", 1),
    ("guest/zig/README.md", 1),
];

/// Those that are not, and why.
const OTHERS: [(&str, &str); 2] = [
    (
        "guest/provider/README.md",
        "its tools `wac` and `wasmtime` take long to build; the tests of the provider do the same with libraries",
    ),
    (
        "guest/sqlite/README.md",
        "the reader has a program of their own; the tests of SQLite build it alike",
    ),
];

/// A machine on which a page is followed.
#[derive(Default)]
struct Machine {
    /// What its shell does first.
    prelude: String,
    programs: Vec<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
}

impl Machine {
    fn new(environment: impl IntoIterator<Item = (&'static str, OsString)>) -> Self {
        Self {
            programs: vec![tool().with_file_name("")],
            environment: environment.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Has what pip would install. It says that this is there, unless the page names another version.
    fn with_pip(mut self, toolchain: &Toolchain) -> Result<Self> {
        let toolchain = toolchain.folder()?;
        self.programs.push(toolchain.join("bin"));
        let libraries = fs::read_dir(toolchain.join("lib"))?;
        let packages = libraries.map(|library| Ok(library?.path().join("site-packages")));
        let packages = packages.collect::<std::io::Result<Vec<_>>>()?;
        let packages = env::join_paths(packages)?;
        self.environment.push(("PYTHONPATH", packages));
        self.environment.push(("PIP_NO_INDEX", "1".into()));
        Ok(self)
    }

    /// Follows one session of a page.
    fn follow(mut self, page: &str, session: usize) -> Result {
        let path = env::var_os("PATH").unwrap_or_default();
        self.programs.extend(env::split_paths(&path));
        let path = env::join_paths(self.programs)?;
        self.environment.push(("PATH", path));
        let sessions = page::sessions(Path::new(page))?;
        Ok(sessions[session].run(&self.prelude, &self.environment)?)
    }
}

fn is_ready(language: &str) -> bool {
    Language::named(language).expect("a language").is_ready()
}

/// A machine with Node, and with what the other tests have installed in npm's cache.
fn node() -> Machine {
    Machine::new([
        ("npm_config_prefer_offline", "true".into()),
        ("npm_config_audit", "false".into()),
        ("npm_config_fund", "false".into()),
    ])
}

fn zig() -> Result<Machine> {
    let cache = folder().join("zig-cache").into_os_string();
    let caches = ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"];
    Machine::new(caches.map(|variable| (variable, cache.clone()))).with_pip(&ZIG)
}

#[test]
fn every_page_is_followed_or_it_is_said_why_not() -> Result {
    let mut pages: Vec<_> = PAGES.map(|(page, _)| page).into();
    for (page, why) in OTHERS {
        println!("NOT RUN: the commands of {page}: {why}");
        pages.push(page);
    }
    let mut found = vec!["guest/README.md".to_owned()];
    for entry in fs::read_dir(root().join("guest"))? {
        let entry = entry?;
        let page = entry.path().join("README.md");
        // The interface is there by a link, and has no commands.
        if page.exists() && entry.file_type()?.is_dir() {
            found.push(page.strip_prefix(root())?.display().to_string());
        }
    }
    found.sort();
    pages.sort_unstable();
    assert_eq!(found, pages);
    for (page, count) in PAGES {
        assert_eq!(page::sessions(Path::new(page))?.len(), count, "{page}");
    }
    Ok(())
}

#[test]
fn assemblyscript() -> Result {
    if !is_ready("assemblyscript") {
        return Ok(());
    }
    node().follow("guest/assemblyscript/README.md", 0)
}

#[test]
fn c_and_cpp() -> Result {
    if !is_ready("c") {
        return Ok(());
    }
    zig()?.follow("guest/c/README.md", 0)
}

#[test]
fn go() -> Result {
    if !is_ready("go") {
        return Ok(());
    }
    let mut machine = Machine::new([
        ("GOCACHE", folder().join("go-cache").into()),
        ("GOPATH", folder().join("go-path").into()),
        // All is in the folder that the page has copied.
        ("GOPROXY", "off".into()),
        ("GOTOOLCHAIN", "local".into()),
    ]);
    machine.programs.push(GO.folder()?.join("bin"));
    machine.follow("guest/go/README.md", 0)
}

#[test]
fn javascript() -> Result {
    if !is_ready("javascript") {
        return Ok(());
    }
    node().follow("guest/js/README.md", 0)
}

#[test]
fn typescript_and_starlingmonkey() -> Result {
    if !is_ready("typescript") {
        return Ok(());
    }
    node().follow("guest/js/README.md", 1)
}

#[test]
fn python() -> Result {
    if !is_ready("python") {
        return Ok(());
    }
    Machine::new([]).follow("guest/python/README.md", 0)
}

#[test]
fn rust() -> Result {
    if !is_ready("rust") {
        return Ok(());
    }
    let toolchain = Rust::find()?;
    let mut machine = Machine::new(toolchain.environment());
    // Where the standard library may have been built already.
    let target = folder().join("pages-rust");
    fs::create_dir_all(&target)?;
    machine.prelude = format!("ln -s '{}' target\n", target.display());
    machine.programs.extend(toolchain.programs());
    if let Rust::FromSource { .. } = &toolchain {
        let flags = toolchain.linking(true).join("\x1f");
        machine
            .environment
            .push(("CARGO_ENCODED_RUSTFLAGS", flags.into()));
        machine.prelude += "rustup() { :; }\n";
        println!("NOT RUN: `rustup target add wasm32-wasip2`: Debian's compiler takes its place");
    }
    machine.follow("guest/README.md", 0)
}

#[test]
fn zig_itself() -> Result {
    if !is_ready("zig") {
        return Ok(());
    }
    zig()?.follow("guest/zig/README.md", 0)
}
