//! What an engine tells operators of its guests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use locket::sandbox::{Hooks, Request, Tenant};

use super::*;

#[test]
fn guests_are_listed_with_their_labels_and_tags() {
    let dir = Dir::new();
    let engine = Engine::new();
    let settings = Sandbox::builder(&engine).label("alice").tag("warm");
    let settings = settings.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
    let tenant = Tenant::builder(settings.unwrap()).build();
    let [one, two] = ["call 1", "call 2"].map(|tag| tenant.sandbox().tag(tag).build());
    let plain = Sandbox::builder(&engine).grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
    let plain = plain.unwrap().build();
    let [first, second, third] =
        [&one, &two, &plain].map(|guest| open(guest, "/jobs/lock").unwrap());
    let native = dir.lock(&engine);

    let hold = first.acquire(SH, STUCK).unwrap();
    let mut waits = second.acquire_async(EX, None).unwrap();
    assert!(poll(&mut waits).is_pending());
    let process = pending(&native, SH);
    let mut last = third.acquire_async(SH, None).unwrap();
    assert!(poll(&mut last).is_pending());

    let snapshot = engine.snapshot();
    let lock = &snapshot.locks[0];
    assert_eq!(lock.path, dir.path("lock"));
    let shown = |party: &locket::ClientSnapshot| {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        (name(&party.label), name(&party.tag), party.guest)
    };
    let holders: Vec<_> = lock.holders.iter().map(shown).collect();
    let waiters: Vec<_> = lock.waiters.iter().map(shown).collect();
    assert_eq!(holders, [("alice".into(), "call 1".into(), true)]);
    let expected = [("alice", "call 2", true), ("", "", false), ("", "", true)];
    let expected = expected.map(|(label, tag, guest)| (label.into(), tag.into(), guest));
    assert_eq!(waiters, expected);
    assert!(lock.holders[0].since.is_some() && lock.waiters.iter().all(|it| it.since.is_some()));
    // The tag is the host's own.
    let holder = format!("{:?}", third.holder().unwrap().unwrap());
    assert!(
        holder.contains("alice") && !holder.contains("call 1"),
        "{holder}"
    );
    drop((hold, waits, process, last));
}

#[test]
fn a_guest_that_serves_another_request_is_called_otherwise() {
    struct Tags(Mutex<Vec<String>>);

    impl Hooks for Tags {
        fn acquired(&self, request: &Request<'_>, _: Duration) {
            let tag = request.tag.unwrap_or_default();
            self.0.lock().unwrap().push(tag.to_owned());
        }
    }

    let dir = Dir::new();
    let engine = Engine::new();
    let tags = Arc::new(Tags(Mutex::default()));
    let guest = Sandbox::builder(&engine)
        .tag("call 1")
        .hooks(Arc::clone(&tags) as _);
    let guest = guest
        .grant_dir(dir.0.path(), "/jobs", Rights::LOCKS)
        .unwrap()
        .build();
    let first = open(&guest, "/jobs/lock").unwrap();
    drop(first.acquire(EX, None).unwrap());
    guest.clone().set_tag("call 2");
    let second = open(&guest, "/jobs/lock").unwrap();
    let hold = second.acquire(EX, None).unwrap();
    assert_eq!(*tags.0.lock().unwrap(), ["call 1", "call 2"]);
    let holder = engine.snapshot().locks[0].holders[0].tag.clone();
    assert_eq!(holder.as_deref(), Some("call 2"));
    drop(hold);
}

#[test]
fn the_order_of_turns_is_that_of_the_listing() {
    let dir = Dir::new();
    let engine = Engine::builder().fair_shares(true).build();
    let _held = dir.lock(&engine).acquire(EX, STUCK).unwrap();
    let guests = ["a", "b"].map(|label| {
        let guest = Sandbox::builder(&engine).label(label);
        let guest = guest.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
        open(&guest.unwrap().build(), "/jobs/lock").unwrap()
    });
    let waits = [0, 0, 0, 1, 1].map(|guest: usize| {
        let mut wait = guests[guest].acquire_async(EX, None).unwrap();
        assert!(poll(&mut wait).is_pending());
        wait
    });
    let snapshot = engine.snapshot();
    let labels = snapshot.locks[0]
        .waiters
        .iter()
        .map(|it| it.label.clone().unwrap());
    assert_eq!(labels.collect::<Vec<_>>(), ["a", "b", "a", "b", "a"]);
    drop(waits);
}

#[test]
fn the_end_of_an_engine_ends_the_waits_of_its_guests() {
    let dir = Dir::new();
    let engine = Engine::new();
    let foreign = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
    let [one, other] = [(); 2].map(|()| guest(&engine, dir.0.path(), Limits::new()));
    let (first, second) = (
        open(&one, "/jobs/lock").unwrap(),
        open(&other, "/jobs/lock").unwrap(),
    );
    for end in [Engine::cancel_all, Engine::shut_down] {
        let mut task = second.acquire_async(EX, None).unwrap();
        assert!(poll(&mut task).is_pending());
        thread::scope(|scope| {
            let blocked = scope.spawn(|| first.acquire(EX, None).map(drop));
            eventually("it waits", || one.waits().len() == 1);
            end(&engine);
            assert!(blocked.join().unwrap().unwrap_err().is_canceled());
        });
        assert!(block_on(task).unwrap_err().is_canceled());
        assert_eq!((one.usage().waiters, other.usage().waiters), (0, 0));
    }
    assert!(first.acquire(EX, None).unwrap_err().is_canceled());
    drop(foreign);
    first.acquire(EX, None).unwrap().release().unwrap();
}
