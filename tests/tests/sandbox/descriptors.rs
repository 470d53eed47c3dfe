//! Descriptors that are none, are others' or lead to what is no lock file, lent in WASI 0.2 and 0.3.

use std::fs::File;
use std::os::unix::net::UnixStream;

use locket_tests::harness::{Host, State, descriptors, linker, runtime};
use locket_wasmtime::{LocketCtx, LocketView};
use wasmtime::Store;
use wasmtime::component::{Component, Instance, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir, File as OpenFile, OpenMode};
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::*;

/// The interfaces of each version.
const VERSIONS: [[&str; 2]; 2] = [
    [
        "wasi:filesystem/types@0.2.12",
        "locket:lock/descriptors@0.1.0",
    ],
    [
        "wasi:filesystem/types@0.3.0",
        "locket:lock-p3/descriptors@0.1.0",
    ],
];

/// What a descriptor can be opened for.
const OPENS: [&str; 2] = ["lock", "ranges"];

/// Cases of the error, as the guest counts them.
const INVALID_PATH: i32 = -1 - 7;
const LIMIT_EXCEEDED: i32 = -1 - 8;
const NOT_SUPPORTED: i32 = -1 - 9;

fn attacker([filesystem, descriptors]: [&str; 2]) -> Component {
    let text = include_str!("descriptors.wat");
    let text = text.replace("\"FILESYSTEM\"", &format!("{filesystem:?}"));
    let text = text.replace("\"DESCRIPTORS\"", &format!("{descriptors:?}"));
    Component::new(runtime(), wat::parse_str(text).unwrap()).unwrap()
}

struct Attacker {
    store: Store<State>,
    instance: Instance,
}

impl Attacker {
    async fn new(host: &Host, component: &Component, ctx: LocketCtx) -> Self {
        let mut store = host.store_with(ctx, &mut WasiCtx::builder());
        let instance = linker().instantiate_async(&mut store, component).await;
        let instance = instance.unwrap();
        Self { store, instance }
    }

    /// The handle by which the guest knows a descriptor that it is given.
    async fn take(&mut self, descriptor: Descriptor) -> u32 {
        let descriptor = self.store.data_mut().locket().table.push(descriptor);
        let take = self
            .instance
            .get_typed_func::<(Resource<Descriptor>,), (u32,)>(&mut self.store, "take");
        let taken = take.unwrap();
        let taken = taken.call_async(&mut self.store, (descriptor.unwrap(),));
        taken.await.unwrap().0
    }

    async fn close(&mut self, handle: u32) {
        let close = self
            .instance
            .get_typed_func::<(u32,), ()>(&mut self.store, "close");
        let closed = close.unwrap();
        let closed = closed.call_async(&mut self.store, (handle,));
        closed.await.unwrap();
    }

    /// Lends a number. An error is a trap.
    async fn open(&mut self, what: &str, handle: u32) -> wasmtime::Result<i32> {
        let open = self
            .instance
            .get_typed_func::<(u32,), (i32,)>(&mut self.store, what)?;
        Ok(open.call_async(&mut self.store, (handle,)).await?.0)
    }

    fn handles(&mut self) -> usize {
        self.store.data_mut().locket().ctx.usage().handles
    }
}

fn lends(host: &Host, limits: Limits) -> LocketCtx {
    let ctx = LocketCtx::builder(&host.locks).limits(limits);
    ctx.lock_open_files(true).build()
}

fn open(file: File) -> Descriptor {
    let mode = OpenMode::READ | OpenMode::WRITE;
    Descriptor::File(OpenFile::new(file, FsPerms::ReadWrite, mode, false))
}

fn lock_file(host: &Host, name: &str) -> Descriptor {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    open(options.open(host.path(name)).unwrap())
}

#[tokio::test]
async fn a_number_that_is_no_descriptor_of_the_guest_traps() {
    let host = Host::new();
    for version in VERSIONS {
        let component = attacker(version);
        let new = async || Attacker::new(&host, &component, lends(&host, Limits::new())).await;
        let mut other = new().await;
        let mut foreign = 0;
        for _ in 0..8 {
            foreign = other.take(lock_file(&host, "other")).await;
        }
        let theirs = other.open("lock", foreign).await.unwrap();
        assert!(theirs > 0, "{version:?} {theirs}");

        for what in OPENS {
            for forged in [0, foreign, 1000, 1 << 28, 1 << 31, u32::MAX] {
                let mut guest = new().await;
                let own = guest.take(lock_file(&host, "own")).await;
                assert_ne!(own, forged);
                let trap = guest.open(what, forged).await.unwrap_err();
                assert!(
                    format!("{trap:?}").contains("handle index"),
                    "{forged} {trap:?}"
                );
                assert_eq!(guest.handles(), 0, "{what} {forged}");
            }
            // What the guest has, but not as a descriptor, or not any more.
            let mut guest = new().await;
            let own = guest.take(lock_file(&host, "own")).await;
            let opened = guest.open(what, own).await.unwrap();
            guest.open(what, opened.cast_unsigned()).await.unwrap_err();
            assert_eq!(guest.handles(), 1, "{what}");
            let mut guest = new().await;
            let own = guest.take(lock_file(&host, "own")).await;
            guest.close(own).await;
            guest.open(what, own).await.unwrap_err();
            assert_eq!(guest.handles(), 0, "{what}");
        }
        assert_eq!(other.handles(), 1);
    }
    assert_eq!(descriptors(host.dir.path()), 0);
}

#[tokio::test]
async fn a_descriptor_of_what_is_no_lock_file_is_refused() {
    let host = Host::new();
    let directory = || {
        let dir = File::open(host.dir.path()).unwrap();
        Descriptor::Dir(Dir::new(dir, FsPerms::ReadWrite, OpenMode::READ, false))
    };
    let socket = || {
        let (socket, _) = UnixStream::pair().unwrap();
        open(File::from(std::os::fd::OwnedFd::from(socket)))
    };
    for version in VERSIONS {
        let component = attacker(version);
        let ctx = lends(&host, Limits::new());
        let mut guest = Attacker::new(&host, &component, ctx).await;
        for (kind, descriptor) in [
            ("directory", directory()),
            (
                "directory as a file",
                open(File::open(host.dir.path()).unwrap()),
            ),
            ("device", open(File::open("/dev/null").unwrap())),
            ("socket", socket()),
        ] {
            let handle = guest.take(descriptor).await;
            for what in OPENS {
                let answer = guest.open(what, handle).await.unwrap();
                assert_eq!(answer, INVALID_PATH, "{version:?} {what} {kind}");
            }
        }
        assert_eq!(guest.handles(), 0);

        // The host does not lend, whatever else is granted.
        let mut guest = Attacker::new(&host, &component, host.ctx().build()).await;
        let handle = guest.take(lock_file(&host, "a")).await;
        for what in OPENS {
            let answer = guest.open(what, handle).await.unwrap();
            assert_eq!(answer, NOT_SUPPORTED, "{version:?} {what}");
        }
    }
}

#[tokio::test]
async fn descriptors_that_are_lent_count_until_the_limit() {
    let host = Host::new();
    for version in VERSIONS {
        let component = attacker(version);
        let ctx = lends(&host, Limits::new().handles(4));
        let mut guest = Attacker::new(&host, &component, ctx).await;
        let handle = guest.take(lock_file(&host, "a")).await;
        let before = descriptors(host.dir.path());
        for what in OPENS {
            for _ in 0..2 {
                let opened = guest.open(what, handle).await.unwrap();
                assert!(opened > 0, "{version:?} {what} {opened}");
            }
        }
        let open = descriptors(host.dir.path());
        assert!(open <= before + 4, "{open} {before}");
        for _ in 0..1000 {
            for what in OPENS {
                let refused = guest.open(what, handle).await.unwrap();
                assert_eq!(refused, LIMIT_EXCEEDED, "{version:?} {what}");
            }
        }
        assert_eq!(descriptors(host.dir.path()), open);
    }
}
