//! What a host finds in its log: each event tells by the host's own tag which guest it is about.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use locket::{Mode, OnRelease};
use locket_tests::harness::{Host, component, runtime};
use locket_wasmtime::LocketCtx;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;
use wasmtime::component::Linker;
use wasmtime_wasi::WasiCtx;

use super::run_sync;

/// Collects the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_event_names_the_guest_by_the_tag_of_the_host_and_no_guest_sees_it() {
    let log = Log::default();
    let lines = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || lines.clone());
    let _log_of_this_thread = subscriber.finish().set_default();

    let host = Host::new();
    let guest = host.ctx().label("worker").tag("call 17").build();
    let mut linker = Linker::new(runtime());
    locket_wasmtime::p2::add_to_linker_sync(&mut linker).unwrap();
    let mut store = host.store_with(guest.clone(), &mut WasiCtx::builder());
    let bare = linker.instantiate(&mut store, &component("bare")).unwrap();
    let mut run = |wait| run_sync(&mut store, &bare, "/locks/a", wait).unwrap();
    assert_eq!(run(None), "ok");
    let held = host.lock("a").acquire(Mode::Exclusive, None).unwrap();
    assert_eq!(run(Some(0)), "would-block");
    drop(held);

    let open = |ctx: &LocketCtx| ctx.open("/locks/a", None, OnRelease::Keep).unwrap();
    let lock = open(&guest);
    let hold = lock.acquire(Mode::Exclusive, None).unwrap();
    let told = open(&host.ctx().build()).holder().unwrap().unwrap();
    assert_eq!(told.label.as_deref(), Some("worker"));
    assert!(!format!("{told:?}").contains("call"), "{told:?}");
    guest.release_all();
    assert!(hold.release().unwrap_err().is_lost());

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let span = "guest{label=\"worker\" tag=\"call 17\"}";
    let count = |event: &str| {
        let event = format!("locket: {event}");
        let lines = log.lines();
        let of_guest = lines.filter(|line| line.contains(span) && line.contains(&event));
        of_guest.count()
    };
    for (event, times) in [
        ("opened", 3),
        ("acquired", 2),
        ("released", 1),
        ("refused", 1),
        ("lost", 1),
    ] {
        assert_eq!(count(event), times, "{event}: {log}");
    }
}
