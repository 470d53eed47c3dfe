//! What an acquire and a release cost that come from a component.
//!
//! `cargo bench -p locket-wasmtime` prints a table of ratios with the target beside each, as the
//! benchmark `limits` of the engine does; `-- --quick` measures less.
//!
//! The limit is the engine's own pair and two calls of the host that do nothing, each on a
//! resource and from the loop of a guest: what is left is what the adapter adds. On a host that
//! runs guests with `async`, and on one that does not. Then a plugin host with a store for each call.

#[path = "guest_calls/plugins.rs"]
mod plugins;

#[path = "../../benches/limits/measure.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the engine")]
mod measure;
#[path = "../../benches/limits/report.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the engine")]
mod report;
#[path = "../../benches/limits/samples.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the engine")]
mod samples;

use std::fs::File;
use std::path::Path;

use clap::Parser;
use locket::sandbox::Rights;
use locket::{Engine, Mode, Range};
use locket_wasmtime::{LocketCtx, LocketCtxView, LocketView, p2};
use nix::fcntl::{FcntlArg, fcntl};
use wasmtime::component::{
    Component, ComponentExportIndex, Linker, Resource, ResourceTable, ResourceType,
};
use wasmtime::{Config, Result, Store};

use measure::{Contestant, compare};
use report::{Report, Section, Target};

#[derive(Parser)]
struct Args {
    /// Measure less
    #[arg(long)]
    quick: bool,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

struct State {
    locket: LocketCtx,
    table: ResourceTable,
}

impl LocketView for State {
    fn locket(&mut self) -> LocketCtxView<'_> {
        LocketCtxView {
            ctx: &mut self.locket,
            table: &mut self.table,
        }
    }
}

/// A resource of the host with a method that does nothing.
struct Thing;

fn link_empty(linker: &mut Linker<State>) -> Result<()> {
    let mut empty = linker.instance("bench:host/empty")?;
    empty.resource("thing", ResourceType::host::<Thing>(), |mut store, rep| {
        let table = &mut store.data_mut().table;
        table
            .delete(Resource::<Thing>::new_own(rep))
            .map(drop)
            .map_err(Into::into)
    })?;
    empty.func_wrap("[constructor]thing", |mut store, (): ()| {
        Ok((store.data_mut().table.push(Thing)?,))
    })?;
    empty.func_wrap(
        "[method]thing.nothing",
        |mut store, (thing,): (Resource<Thing>,)| {
            store.data_mut().table.get(&thing)?;
            Ok(())
        },
    )
}

/// The component that is measured.
fn built() -> &'static str {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/guests/built/bench.wasm"
    )
}

/// A guest, called without `async` where `sync`.
struct Guest {
    store: Store<State>,
    instance: wasmtime::component::Instance,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Guest {
    fn new(dir: &Path, sync: bool) -> Result<Self> {
        let mut config = Config::new();
        config.concurrency_support(!sync);
        let engine = wasmtime::Engine::new(&config)?;
        let component = Component::from_file(&engine, built())?;
        let mut linker = Linker::new(&engine);
        let locks = Engine::new();
        let locket = LocketCtx::builder(&locks)
            .grant_dir(dir, "/", Rights::ALL)?
            .build();
        let mut store = Store::new(
            &engine,
            State {
                locket,
                table: ResourceTable::new(),
            },
        );
        link_empty(&mut linker)?;
        if sync {
            p2::add_to_linker_sync(&mut linker)?;
            let instance = linker.instantiate(&mut store, &component)?;
            return Ok(Self {
                store,
                instance,
                runtime: None,
            });
        }
        p2::add_to_linker_async(&mut linker)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let instance = runtime.block_on(linker.instantiate_async(&mut store, &component))?;
        Ok(Self {
            store,
            instance,
            runtime: Some(runtime),
        })
    }

    fn export(&mut self, name: &str) -> ComponentExportIndex {
        self.instance
            .get_export_index(&mut self.store, None, name)
            .expect("an export")
    }

    fn call<P>(&mut self, name: &str, params: P) -> Result<()>
    where
        P: wasmtime::component::ComponentNamedList
            + wasmtime::component::Lower
            + Send
            + Sync
            + 'static,
    {
        let index = self.export(name);
        let function = self
            .instance
            .get_typed_func::<P, ()>(&mut self.store, index)?;
        match &self.runtime {
            None => function.call(&mut self.store, params),
            Some(runtime) => runtime.block_on(function.call_async(&mut self.store, params)),
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let rounds = if args.quick { 25 } else { 200 };
    let dir = tempfile::tempdir()?;
    File::create(dir.path().join("lock"))?;
    let mut report = Report::new(dir.path());
    for (title, sync) in [
        ("Component, async host: acquire + release by handle", false),
        (
            "Component, host without async: acquire + release by handle",
            true,
        ),
    ] {
        report.add(through(dir.path(), rounds, title, sync)?);
    }
    report.add(ranges(dir.path(), rounds)?);
    report.add(plugins::calls(dir.path(), rounds)?);
    report.add(plugins::hooks(dir.path(), rounds)?);
    report.add(plugins::shares(dir.path(), rounds.min(20))?);
    println!("{}", report.summary());
    Ok(())
}

fn through(dir: &Path, rounds: usize, title: &str, sync: bool) -> Result<Section> {
    const BATCH: u32 = 500;
    let mut guests = Vec::new();
    for _ in 0..3 {
        guests.push(Guest::new(dir, sync)?);
    }
    let [mut calls, mut opens, mut pairs] = guests.try_into().ok().expect("three of them");
    let lock = Engine::new().open(dir.join("lock"))?;
    let pair = |count| {
        for _ in 0..count {
            let guard = lock.acquire(Mode::Exclusive, None).unwrap();
            guard.release().unwrap();
        }
    };
    let contestants = vec![
        Contestant::batch(
            "engine's pair + two empty calls of the host",
            BATCH,
            |count| {
                pair(count);
                calls.call("empties", (count,)).unwrap();
            },
        ),
        Contestant::batch("engine's pair", BATCH, pair),
        Contestant::batch("guest, open + acquire + release + drop", BATCH, |count| {
            opens.call("opens", ("/lock", count)).unwrap();
        }),
        Contestant::batch("guest, acquire + release", BATCH, |count| {
            pairs.call("pairs", ("/lock", count)).unwrap();
        })
        .target(Target::RatioAtMost(1.25)),
    ];
    Ok(compare(title, rounds, contestants))
}

/// Ranges, without async: what the kernel takes, and two empty calls.
fn ranges(dir: &Path, rounds: usize) -> Result<Section> {
    const BATCH: u32 = 500;
    const RANGE: Range = Range {
        start: 100,
        length: 100,
    };
    let mut guests = [Guest::new(dir, true)?, Guest::new(dir, true)?];
    let [calls, locks] = &mut guests;
    let file = File::options().write(true).open(dir.join("lock"))?;
    let raw = |count| {
        for _ in 0..count {
            for kind in [libc::F_WRLCK, libc::F_UNLCK] {
                let lock = libc::flock {
                    l_type: i16::try_from(kind).expect("a small number"),
                    l_whence: i16::try_from(libc::SEEK_SET).expect("a small number"),
                    l_start: 100,
                    l_len: 100,
                    l_pid: 0,
                };
                fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
            }
        }
    };
    let native = Engine::new().open_ranges(dir.join("lock"))?;
    let contestants = vec![
        Contestant::batch("raw fcntl + two empty calls of the host", BATCH, |count| {
            raw(count);
            calls.call("empties", (count,)).unwrap();
        }),
        Contestant::batch("raw fcntl", BATCH, raw),
        Contestant::batch("RangeFile of the engine", BATCH, |count| {
            for _ in 0..count {
                native.lock(Mode::Exclusive, RANGE, None).unwrap();
                native.unlock(RANGE).unwrap();
            }
        }),
        Contestant::batch("guest, lock + unlock", BATCH, |count| {
            locks.call("ranges", ("/lock", count)).unwrap();
        })
        .target(Target::RatioAtMost(1.25)),
    ];
    let title = "Component, host without async: lock + unlock of a range";
    Ok(compare(title, rounds, contestants))
}
