//! SQLite's own test programs, of which Debian's source package has the sources.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;
use crate::toolchain::Toolchain;

/// The sources. The package is that of the release from which this machine has its packages, and apt
/// checks its signature; what the programs do does not depend on the version.
pub const SOURCES: Toolchain = Toolchain {
    name: "sqlite-sources",
    packages: &["sqlite3"],
    install: source,
};

/// The folder of the sources, which are unpacked as they are. Without them, says so, and returns
/// None; in CI nothing may be missing.
///
/// # Panics
///
/// In CI, if they cannot be had.
pub fn sources() -> Option<PathBuf> {
    match SOURCES.folder() {
        Ok(folder) => Some(folder.join("unpacked")),
        Err(missing) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must have SQLite's sources: {missing:#}"
            );
            println!("NOT TESTED without SQLite's sources: {missing:#}");
            None
        }
    }
}

/// The repositories of Debian that apt knows, as lines of a list of sources.
fn repositories(options: &[String]) -> Result<String> {
    let found = Command::new("apt-get")
        .args(options)
        .args(["indextargets", "--format"])
        .arg("deb-src $(REPO_URI) $(CODENAME) $(COMPONENT)")
        .args(["Created-By: Packages", "Origin: Debian"])
        .output()
        .context("apt-get is not installed")?;
    Ok(String::from_utf8(found.stdout)?)
}

/// Downloads the sources of a package and unpacks them. Needs no rights, and leaves apt's own lists alone.
fn source(packages: &[&str], folder: &Path) -> Result<()> {
    let mut repositories = repositories(&[])?;
    if repositories.is_empty() {
        // A fresh machine has no lists of packages yet.
        let own = ["lists-of-the-machine", "cache"].map(|name| folder.join(name));
        for folder in &own {
            fs::create_dir_all(folder.join("partial"))?;
        }
        let [lists, cache] = own.map(|folder| folder.display().to_string());
        let options = [
            format!("-oDir::State::Lists={lists}"),
            format!("-oDir::Cache={cache}"),
            "-oAPT::Sandbox::User=root".to_owned(),
        ];
        run(Command::new("apt-get").args(&options).arg("update"))?;
        repositories = self::repositories(&options)?;
    }
    ensure!(!repositories.is_empty(), "apt has no repository of Debian");
    let list = folder.join("sources.list");
    fs::write(&list, repositories)?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(folder).args(arguments);
        for (option, value) in [
            ("Dir::Etc::SourceList", list.as_path()),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::State::Lists", &folder.join("lists")),
            ("Dir::Cache", &folder.join("cache")),
            // Another user could not write into the folder.
            ("APT::Sandbox::User", Path::new("root")),
        ] {
            apt.arg("-o").arg(format!("{option}={}", value.display()));
        }
        run(&mut apt)
    };
    for below in ["lists/partial", "cache/archives/partial", "unpacked"] {
        fs::create_dir_all(folder.join(below))?;
    }
    apt(&["update"])?;
    apt(&[&["source", "--download-only"], packages].concat())?;
    let archive = fs::read_dir(folder)?
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|path| path.to_string_lossy().contains(".orig.tar."))
        .context("the source package has no sources")?;
    run(Command::new("tar")
        .args(["--extract", "--strip-components=1", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(folder.join("unpacked")))
}
