//! Anything that may be found in the place of an existence lock: garbage, things that are no locks,
//! records of the dead, of the living, and of processes that cannot be judged. The outcome is a clear
//! error or "held"; no living holder loses its lock, and no file is lost.

use std::os::unix::fs::symlink;

use super::*;

/// Puts something unexpected at a path.
pub(crate) type Make = fn(&Path);

/// Something in the place of a lock.
struct Thing {
    name: &'static str,
    make: Make,
    /// The protocols in which it is no more than a lock, so that it can be broken.
    breaks: &'static [Protocol],
}

pub(crate) const BESIDE: &[Protocol] = &[Protocol::Link, Protocol::Symlink, Protocol::Mkdir];

macro_rules! content {
    ($name:literal, $content:expr, $breaks:expr) => {
        Thing {
            name: $name,
            make: |path| fs::write(path, $content).unwrap(),
            breaks: $breaks,
        }
    };
}

macro_rules! link {
    ($name:literal, $target:expr, $breaks:expr) => {
        Thing {
            name: $name,
            make: |path| symlink($target, path).unwrap(),
            breaks: $breaks,
        }
    };
}

const THINGS: &[Thing] = &[
    content!("an empty file", "", &NAMES),
    content!("garbage", "garbage", &[]),
    content!("a half-written number", "12", &[]),
    content!("two numbers", "1 2\n", &[]),
    content!("no number", "\n", &[]),
    content!("a number with a space", " 1\n", &[]),
    content!("a number with a sign", "+1\n", &[]),
    content!("a half-written record", "1\nho", &[]),
    content!("a record with more lines", "1\nhost\n1\n1\n", &[]),
    content!("a start that is none", "1\nhost\nx\n", &[]),
    content!("another system's lines", "1\r\nhost\r\n", &[]),
    content!("process 0", "0\n", &[]),
    content!("process -1", "-1\n", &[]),
    content!("process 2^31", "2147483648\n", &[]),
    content!("process 2^32 + 1", "4294967297\n", &[]),
    content!("process 10^19", "99999999999999999999\n", &[]),
    content!("a record of process 0", "0\nhost\n", &[]),
    content!("a record of process -1", "-1\nhost\n1\n", &[]),
    content!("a record of process 2^32 + 1", "4294967297\nhost\n", &[]),
    content!(
        "what a breaker leaves while it works",
        "filelock/break\n123\n",
        &[]
    ),
    content!("a lease", "filelock/2\npid=1\nhost=h\nmode=lease\n", &[]),
    content!("a sentinel", "1\nfilelock-strict-v1\0\n0\n", &[]),
    content!("every byte", (0..=255).collect::<Vec<u8>>(), &[]),
    content!("zeroes", [0; 512], &[]),
    content!("a huge file", vec![b'1'; 8 << 20], &[]),
    content!(
        "a record that is too long",
        format!("1\n{}\n", "h".repeat(2000)),
        &[]
    ),
    link!("a dangling link", "nowhere", &NAMES),
    link!("a dangling link elsewhere", "none/of/this", &NAMES),
    link!("a link to process 0", "host.0-1", &NAMES),
    link!("a link to process -1", "host.-1-1", &NAMES),
    link!("a link to process 2^32 + 1", "host.4294967297-1", &NAMES),
    link!("a link to a thread", "host-12ab.-5bbccb80123", &NAMES),
    link!(
        "a link that is not text",
        std::ffi::OsStr::from_bytes(b"\xff\xfe.1-\x80"),
        &NAMES
    ),
    link!("a link to a file", "data", &[]),
    link!("a link to a directory", "folder", &[]),
    link!("a link to a dead record", "dead", &[]),
    Thing {
        name: "a loop",
        make: |path| symlink(path.file_name().unwrap(), path).unwrap(),
        breaks: &NAMES,
    },
    Thing {
        name: "an empty directory",
        make: |path| fs::create_dir(path).unwrap(),
        breaks: BESIDE,
    },
    Thing {
        name: "a directory with an empty file",
        make: |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("host.0"), "").unwrap();
        },
        breaks: BESIDE,
    },
    Thing {
        name: "a directory with two files",
        make: |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("host.1-1"), "").unwrap();
            fs::write(path.join("host.2-1"), "").unwrap();
        },
        breaks: &[],
    },
    Thing {
        name: "a directory with a file that is not empty",
        make: |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("precious"), "precious").unwrap();
        },
        breaks: &[],
    },
    Thing {
        name: "a directory with a directory",
        make: |path| fs::create_dir_all(path.join("host.1-1")).unwrap(),
        breaks: &[],
    },
    Thing {
        name: "a FIFO",
        make: |path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        },
        breaks: &[],
    },
    Thing {
        name: "a socket",
        make: |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        breaks: &[],
    },
];

/// A directory with other files, some of which are targets of links.
fn neighborhood() -> Dir {
    let dir = Dir::new();
    fs::write(dir.path("data"), "precious").unwrap();
    fs::write(dir.path("dead"), format!("{GONE}\n")).unwrap();
    fs::create_dir(dir.path("folder")).unwrap();
    fs::write(dir.path("folder/file"), "precious").unwrap();
    dir
}

fn each_thing(test: impl Fn(&Dir, &Thing, Protocol)) {
    for thing in THINGS {
        for protocol in NAMES {
            println!("{} in the protocol {protocol}", thing.name);
            let dir = neighborhood();
            (thing.make)(&place(&dir, protocol));
            test(&dir, thing, protocol);
        }
    }
}

#[test]
fn what_cannot_be_read_is_held_or_an_error() {
    each_thing(|dir, _, protocol| {
        let lock = open(dir, protocol);
        is_refused(dir, &lock);
        // It leaves nothing behind in this process.
        remove(&place(dir, protocol));
        lock.acquire(EX, Duration::ZERO).unwrap().release().unwrap();
    });
}

/// An age limit is no reason to remove what is more than a lock.
#[test]
fn what_cannot_be_read_is_not_removed_for_its_age() {
    let old = SystemTime::now() - Duration::from_secs(86_400);
    each_thing(|dir, thing, protocol| {
        let place = place(dir, protocol);
        let kind = fs::symlink_metadata(&place).unwrap().file_type();
        // The time of other kinds cannot be set without following or opening them.
        if kind.is_file() || kind.is_dir() {
            let open = fs::File::open(&place).unwrap();
            open.set_modified(old).unwrap();
        } else {
            return;
        }
        let before = snapshot(dir.0.path());
        let options = Options::new().protocol(protocol);
        let options = options.stale_after(Some(Duration::from_secs(3600)));
        let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
        // Only a lock of this protocol grows old.
        let one = (protocol == Protocol::Mkdir) == kind.is_dir() && protocol != Protocol::Symlink;
        match lock.acquire(EX, Duration::ZERO) {
            Ok(guard) => {
                assert!(one && thing.breaks.contains(&protocol), "not a lock");
                guard.release().unwrap();
                assert!(!place.exists());
            }
            Err(e) => {
                assert!(!(one && thing.breaks.contains(&protocol)), "{e}");
                assert_eq!(snapshot(dir.0.path()), before);
            }
        }
    });
}

#[test]
fn breaking_removes_no_more_than_a_lock() {
    each_thing(|dir, thing, protocol| {
        let place = place(dir, protocol);
        let mut expected = snapshot(dir.0.path());
        let lock = open(dir, protocol);
        match lock.break_lock() {
            Ok(()) => {
                assert!(thing.breaks.contains(&protocol), "it was more than a lock");
                expected.retain(|path, _| !path.starts_with(&place));
                assert!(!lock.is_locked().unwrap());
                assert!(lock.break_lock().unwrap_err().is_not_locked());
            }
            Err(e) => {
                is_clear(&e, dir);
                assert!(!thing.breaks.contains(&protocol), "{e}");
            }
        }
        assert_eq!(snapshot(dir.0.path()), expected);
    });
}

/// The name of its holder shows the protocol of a lock, and these have none.
#[test]
fn breaking_in_any_protocol_leaves_alone_what_names_no_holder() {
    each_thing(|dir, _, _| {
        let before = snapshot(dir.0.path());
        let error = Engine::new().break_lock(dir.path("lock")).unwrap_err();
        assert!(error.is_not_locked() || error.is_invalid_path(), "{error}");
        assert_eq!(error.path(), dir.path("lock"));
        assert_eq!(snapshot(dir.0.path()), before);
    });
}
