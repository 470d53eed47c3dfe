//! The packages, built as for a registry. A user of the built files can do what the page of the
//! language does with a clone, in an empty folder outside of the repository.

use locket_tests::process::tool;
use polyglot::bindings::GO_MODULE;
use polyglot::machine::Machine;
use polyglot::page;
use polyglot::toolchain::{Toolchain, pip};
use polyglot::{Language, root, run};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What builds packages of Python.
const BUILD: Toolchain = Toolchain {
    name: "python-build",
    packages: &["build==1.6.1", "setuptools==84.2.1"],
    install: pip,
};

fn is_ready(language: &str) -> bool {
    Language::named(language).expect("a language").is_ready()
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    assert!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A copy of what git has, or would add, in some places of the repository, links included.
fn copy(places: &[&str]) -> Result<TempDir> {
    let copy = tempfile::tempdir()?;
    let listed = output(
        Command::new("git")
            .current_dir(root())
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .arg("--")
            .args(places),
    )?;
    for file in listed.lines() {
        let (from, to) = (root().join(file), copy.path().join(file));
        fs::create_dir_all(to.with_file_name(""))?;
        match fs::read_link(&from) {
            Ok(target) => symlink(target, to)?,
            Err(_) => fs::copy(from, to).map(drop)?,
        }
    }
    Ok(copy)
}

/// The only file of a folder with this extension.
fn only(folder: &Path, extension: &str) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|file| Ok(file?.path()));
    let mut files = files.collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension() == Some(OsStr::new(extension)));
    let [file] = &files[..] else {
        panic!("not one file .{extension}: {files:?}");
    };
    Ok(file.clone())
}

/// Whether a compressed archive has these files, in its one folder.
fn has(archive: &Path, files: &[&str]) -> Result {
    let list = output(Command::new("tar").arg("-tzf").arg(archive))?;
    for file in files {
        let mut found = list.lines().filter_map(|name| name.split_once('/'));
        assert!(
            found.any(|(_, name)| name == *file),
            "no {file} in {}:\n{list}",
            archive.display()
        );
    }
    Ok(())
}

/// Follows the first session of a page, changed.
fn follow(machine: Machine, page: &str, changes: &[(&str, &str)]) -> Result {
    let sessions = page::changed(Path::new(page), changes)?;
    Ok(machine.follow(&sessions[0])?)
}

fn npm_pack() -> Result<(TempDir, PathBuf)> {
    let copy = copy(&["guest/js", "wit", "LICENSE"])?;
    let folder = copy.path().join("guest/js");
    run(Command::new("npm")
        .args(["pack", "--silent"])
        .current_dir(&folder))?;
    let package = only(&folder, "tgz")?;
    has(
        &package,
        &["index.js", "index.d.ts", "LICENSE", "README.md"],
    )?;
    has(&package, &["wit/lock.wit", "wit/deps/io.wit"])?;
    Ok((copy, package))
}

#[test]
fn all_have_one_version() -> Result {
    let version = env!("CARGO_PKG_VERSION");
    let read = |path: &str| fs::read_to_string(root().join(path));
    let json: serde_json::Value = serde_json::from_str(&read("guest/js/package.json")?)?;
    assert_eq!(json["version"], version);
    let python = read("guest/python/pyproject.toml")?;
    let line = format!("version = \"{version}\"");
    assert!(python.lines().any(|found| found == line), "{python}");
    Ok(())
}

#[test]
fn of_npm() -> Result {
    if !is_ready("javascript") {
        return Ok(());
    }
    let (_copy, package) = npm_pack()?;
    let install = format!("npm install {} ", package.display());
    follow(
        Machine::node(),
        "guest/js/README.md",
        &[("npm install $LOCKET/guest/js ", &install)],
    )
}

#[test]
fn of_npm_under_the_name_that_modules_import() -> Result {
    if !is_ready("javascript") {
        return Ok(());
    }
    let (_copy, package) = npm_pack()?;
    let install = format!("npm install locket@file:{} ", package.display());
    let import = "$ sed -i 's/locket-guest/locket/' app.js\n$ npx componentize-qjs";
    follow(
        Machine::node(),
        "guest/js/README.md",
        &[
            ("npm install $LOCKET/guest/js ", &install),
            ("node_modules/locket-guest/wit", "node_modules/locket/wit"),
            ("$ npx componentize-qjs", import),
        ],
    )
}

#[test]
fn of_python() -> Result {
    if !is_ready("python") {
        return Ok(());
    }
    let copy = copy(&["guest/python", "wit", "LICENSE"])?;
    let out = tempfile::tempdir()?;
    // The source distribution, and the wheel from that.
    run(Command::new(BUILD.folder()?.join("bin/python"))
        .args(["-m", "build", "--no-isolation", "--outdir"])
        .args([out.path(), &copy.path().join("guest/python")]))?;
    has(
        &only(out.path(), "gz")?,
        &["LICENSE", "README.md", "locket/wit/lock.wit"],
    )?;
    let wheel = only(out.path(), "whl")?;
    let list = output(
        Command::new("python3")
            .args(["-m", "zipfile", "-l"])
            .arg(&wheel),
    )?;
    assert!(list.contains("/LICENSE"), "{list}");
    let installed = format!("{}\n", wheel.display());
    follow(
        Machine::plain(),
        "guest/python/README.md",
        &[("$LOCKET/guest/python\n", &installed)],
    )
}

/// Go itself fetches a tag of the repository; the runtime of the bindings is on a proxy.
#[test]
fn of_go() -> Result {
    if !is_ready("go") {
        return Ok(());
    }
    let repository = copy(&["guest/go", "LICENSE"])?;
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "."],
        &["commit", "--quiet", "--message", "0.1.0"],
        &["tag", "guest/go/v0.1.0"],
    ] {
        run(Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(arguments)
            .current_dir(&repository))?;
    }
    let proxy = tempfile::tempdir()?;
    serve(proxy.path(), "go.bytecodealliance.org/pkg", "v0.2.3")?;
    let modules = tempfile::tempdir()?;
    let proxy = format!("file://{},direct", proxy.path().display());
    let ours = format!("url.file://{}.insteadOf", repository.path().display());
    let machine = Machine::go()?
        .with([("GOMODCACHE", modules.path())])
        .with([("GOPROXY", &proxy), ("GIT_CONFIG_KEY_0", &ours)])
        .with([
            ("GIT_CONFIG_COUNT", "1"),
            (
                "GIT_CONFIG_VALUE_0",
                "https://github.com/locket-lock/locket",
            ),
            // Otherwise not even its owner can remove the folder.
            ("GOFLAGS", "-modcacherw"),
            ("GOSUMDB", "off"),
        ]);
    let module = modules.path().join(format!("{GO_MODULE}@v0.1.0"));
    let get = format!(
        "$ rm go.mod && go mod init example/job\n\
         $ go get {GO_MODULE}@v0.1.0\n\
         $ cat {}/LICENSE\n\
         $ cp $LOCKET/guest/go/examples/job/main.go .\n",
        module.display()
    );
    let copied = "$ cp -R $LOCKET/guest/go locket\n$ cp locket/examples/job/main.go .\n";
    follow(machine, "guest/go/README.md", &[(copied, &get)])
}

/// Puts the module of `guest/go/third_party/go-pkg` into a folder as a proxy of Go has it.
fn serve(proxy: &Path, module: &str, version: &str) -> Result {
    const ARCHIVE: &str = "
import pathlib, sys, zipfile
archive, folder, prefix = sys.argv[1:]
with zipfile.ZipFile(archive, 'w') as archive:
    for file in pathlib.Path(folder).rglob('*'):
        if file.is_file():
            archive.write(file, f'{prefix}/{file.relative_to(folder)}')
";
    let from = root().join("guest/go/third_party/go-pkg");
    let versions = proxy.join(module).join("@v");
    let version_file = |extension| versions.join(format!("{version}.{extension}"));
    fs::create_dir_all(&versions)?;
    fs::copy(from.join("go.mod"), version_file("mod"))?;
    Ok(run(Command::new("python3")
        .args(["-c", ARCHIVE])
        .args([version_file("zip"), from])
        .arg(format!("{module}@{version}")))?)
}

/// Packages a crate, and unpacks that again.
fn unpacked(package: &str, into: &Path) -> Result<PathBuf> {
    run(Command::new(env!("CARGO"))
        .args(["package", "--quiet", "--no-verify", "--allow-dirty"])
        .args(["--package", package, "--target-dir"])
        .arg(into)
        .current_dir(root()))?;
    let packages = into.join("package");
    let archive = only(&packages, "crate")?;
    has(&archive, &["LICENSE", "README.md", "src/lib.rs"])?;
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .current_dir(&packages))?;
    Ok(archive.with_extension(""))
}

#[test]
fn of_cargo_for_components() -> Result {
    if !is_ready("rust") {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let package = unpacked("locket-guest", scratch.path())?;
    let added = format!("--path {} locket-guest", package.display());
    follow(
        Machine::rust()?,
        "guest/README.md",
        &[("--path $LOCKET/guest locket-guest", &added)],
    )
}

#[test]
fn of_cargo_for_native_programs() -> Result {
    let scratch = tempfile::tempdir()?;
    let package = unpacked("locket-host", scratch.path())?;
    let page = format!(
        "In an empty folder:\n\n```console\n\
         $ cargo init --quiet --name job\n\
         $ cargo add --quiet --path {package} locket-host\n\
         $ cp {package}/examples/exclusive.rs src/main.rs\n\
         $ cargo run --quiet -- lock counter && cargo run --quiet -- lock counter\n\
         1\n2\n\
         ```\n",
        package = package.display()
    );
    let sessions = page::parse(&page)?;
    Ok(Machine::plain().follow(&sessions[0])?)
}

/// What a release has for those who do not build.
#[test]
fn of_the_tool() -> Result {
    let out = tempfile::tempdir()?;
    run(Command::new(root().join(".ci/archive"))
        .args([&tool(), Path::new("x86_64-unknown-linux-gnu"), out.path()])
        .env_remove("GITHUB_REF_TYPE"))?;
    let archive = only(out.path(), "gz")?;
    let completions = ["bash", "fish", "elv"].map(|shell| format!("completions/locket.{shell}"));
    let files = ["locket", "LICENSE", "man/locket.1", "man/locket-run.1"];
    let files: Vec<_> = files
        .into_iter()
        .chain(completions.iter().map(String::as_str))
        .collect();
    has(&archive, &files)?;
    run(Command::new("shasum")
        .args(["--algorithm", "256", "--check"])
        .arg(only(out.path(), "sha256")?)
        .current_dir(&out))?;
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .current_dir(&out))?;
    let name = archive.with_extension("").with_extension("");
    let version = output(Command::new(name.join("locket")).arg("--version"))?;
    // What follows says which lock servers it knows.
    let expected = format!("locket {} ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected), "{version}");
    Ok(())
}
