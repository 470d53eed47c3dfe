//! Watched places outside of a grant, and a directory in the grant that leads there.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use locket::{Engine, Guard, Mode, Options, Protocol};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::attacks::support::canary::Canary;
use crate::attacks::support::enclosure::Enclosure;
use crate::stage::Outcome;

/// A grant with the directory `c`, and places outside.
pub(super) struct Outside {
    pub(super) enclosure: Enclosure,
    /// The targets of links. The first one does not exist.
    pub(super) places: Vec<PathBuf>,
    /// Holds of the locks outside.
    _held: Vec<Guard>,
    before: Canary,
    /// Reports what is opened outside.
    pub(super) opened: OwnedFd,
}

impl Outside {
    pub(super) fn new() -> Result<Self> {
        let enclosure = Enclosure::new()?;
        fs::create_dir(enclosure.host.path("c"))?;
        fs::write(enclosure.host.path("c/file"), "")?;
        for dir in ["with", "hard", "without", "closed"] {
            fs::create_dir(enclosure.outside(dir))?;
        }
        for file in ["with/file", "with/name", "closed/file", "hard/name"] {
            fs::write(enclosure.outside(file), "")?;
        }
        // The file that the guest has open, by another name.
        fs::hard_link(
            enclosure.host.path("c/file"),
            enclosure.outside("hard/file"),
        )?;
        let others = Engine::new();
        let mut held = Vec::new();
        let locks = [
            ("with/file", Protocol::Native),
            ("with/name", Protocol::Native),
            ("with/name", Protocol::Symlink),
            ("hard/name", Protocol::Mkdir),
        ];
        for (file, protocol) in locks {
            let options = Options::new().protocol(protocol);
            let lock = others.open_with(enclosure.outside(file), &options)?;
            held.push(lock.acquire(Mode::Exclusive, Duration::ZERO)?);
        }
        let mut places: Vec<PathBuf> = [
            "missing",
            "with",
            "hard",
            "without",
            "there",
            "there/deeper",
            "closed",
            "closed/missing",
        ]
        .map(|name| PathBuf::from("../outside").join(name))
        .into();
        places.extend(["missing", "with", "there"].map(|name| enclosure.outside(name)));
        places.extend(["..", "../../../../../../../etc", "/", "/missing"].map(PathBuf::from));
        let opened = watch(&enclosure)?;
        close(&enclosure, true)?;
        let before = look(&enclosure)?;
        // The record has opened the files.
        count(&opened)?;
        Ok(Self {
            opened,
            enclosure,
            places,
            _held: held,
            before,
        })
    }

    /// Replaces the directory by a link to a place.
    pub(super) fn lead_to(&self, place: &Path) -> Result<()> {
        let host = &self.enclosure.host;
        fs::rename(host.path("c"), host.path("aside"))?;
        Ok(symlink(place, host.path("c"))?)
    }

    pub(super) fn lead_back(&self) -> Result<()> {
        let host = &self.enclosure.host;
        fs::remove_file(host.path("c"))?;
        Ok(fs::rename(host.path("aside"), host.path("c"))?)
    }

    /// Checks that nothing outside was opened or changed.
    pub(super) fn conclude(&self, outcome: &mut Outcome) -> Result<()> {
        let opened = count(&self.opened)?;
        outcome.measured("opened outside", opened);
        outcome.must(opened == 0, || {
            format!("files outside were opened {opened} times")
        });
        let changes = look(&self.enclosure)?.changes(&self.before);
        outcome.measured("changes outside", changes.len());
        outcome.violations.extend(changes);
        Ok(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Otherwise it cannot be removed.
        let _ = close(&self.enclosure, false);
    }
}

/// Makes the directory `closed` inaccessible, or accessible again.
fn close(enclosure: &Enclosure, closed: bool) -> Result<()> {
    let mode = if closed { 0o000 } else { 0o700 };
    let permissions = fs::Permissions::from_mode(mode);
    Ok(fs::set_permissions(
        enclosure.outside("closed"),
        permissions,
    )?)
}

/// Records what is outside, as far as it is accessible.
fn look(enclosure: &Enclosure) -> Result<Canary> {
    let except = [enclosure.host.dir.path(), &enclosure.outside("closed")];
    Ok(Canary::of(enclosure.around.path(), &except)?)
}

/// Watches for files that are opened in the places outside.
fn watch(enclosure: &Enclosure) -> Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    for dir in ["", "with", "hard", "without", "closed", "deep"] {
        inotify::add_watch(&watch, enclosure.outside(dir), WatchFlags::OPEN)?;
    }
    Ok(watch)
}

/// How many files were opened since the last call.
pub(super) fn count(watch: &OwnedFd) -> Result<usize> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut count = 0;
    loop {
        match events.next() {
            Ok(_) => count += 1,
            Err(Errno::AGAIN) => return Ok(count),
            Err(e) => return Err(e.into()),
        }
    }
}
