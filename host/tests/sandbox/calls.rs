//! Calls of one guest to another that the host declares, and guests that wait for each other.

use super::*;

/// Guests, each with the lock of a file of its own open, and held.
struct Party {
    dir: Dir,
    guests: Vec<Sandbox>,
    held: Vec<GuestGuard>,
}

impl Party {
    fn of(count: usize) -> Self {
        let (dir, engine) = (Dir::new(), Engine::new());
        let guests = (0..count).map(|_| guest(&engine, dir.0.path(), Limits::new()));
        let guests: Vec<_> = guests.collect();
        let held = guests.iter().zip(0..).map(|(guest, file)| {
            let lock = open(guest, &format!("/jobs/{file}")).unwrap();
            lock.acquire(EX, STUCK).unwrap()
        });
        let held = held.collect();
        Self { dir, guests, held }
    }

    /// The lock of a file, opened by a guest.
    fn lock(&self, guest: usize, file: usize) -> GuestLock {
        open(&self.guests[guest], &format!("/jobs/{file}")).unwrap()
    }

    /// A guest begins to wait for what another one holds.
    fn waits(&self, guest: usize, holder: usize) -> GuestAcquire {
        let mut wait = self
            .lock(guest, holder)
            .acquire_suspended(EX, STUCK)
            .unwrap();
        assert!(poll(&mut wait).is_pending());
        wait
    }

    fn calls(&self, caller: usize, callee: usize) -> Result<Call> {
        self.guests[caller].calls(&self.guests[callee])
    }

    fn cannot_wait(&self, guest: usize, holder: usize) {
        let hopeless = self.lock(guest, holder).acquire(EX, STUCK).unwrap_err();
        assert!(hopeless.is_deadlock(), "{guest}, {holder}: {hopeless}");
    }
}

#[test]
fn a_callee_cannot_wait_for_its_caller() {
    let party = Party::of(1);
    // It holds and awaits nothing: only the call is in its way.
    let engine = Engine::new();
    let [caller, callee] = [(); 2].map(|()| guest(&engine, party.dir.0.path(), Limits::new()));
    let _held = open(&caller, "/jobs/file").unwrap().acquire(EX, STUCK);
    let lock = open(&callee, "/jobs/file").unwrap();
    let call = caller.calls(&callee).unwrap();
    assert!(lock.acquire(EX, STUCK).unwrap_err().is_deadlock());
    let suspended = block_on(lock.acquire_suspended(EX, STUCK).unwrap());
    assert!(suspended.unwrap_err().is_deadlock());
    // It may wait with what keeps running, and try.
    let mut runs = lock.acquire_async(EX, STUCK).unwrap();
    assert!(poll(&mut runs).is_pending());
    drop(runs);
    let tried = lock.acquire(EX, Duration::ZERO).unwrap_err();
    assert!(tried.is_would_block(), "{tried}");
    // A call that is over does not count.
    drop(call);
    let mut waits = lock.acquire_suspended(EX, STUCK).unwrap();
    assert!(poll(&mut waits).is_pending());
}

#[test]
fn a_guest_cannot_call_one_that_waits_for_it() {
    let mut party = Party::of(2);
    let waits = party.waits(1, 0);
    let hopeless = party.calls(0, 1).unwrap_err();
    assert!(hopeless.is_deadlock(), "{hopeless}");
    // Nothing of the refused call is left.
    drop(party.held.remove(0));
    let got = block_on(waits).unwrap();
    drop(party.calls(0, 1).unwrap());
    drop(got);
    let own = party.lock(0, 0).acquire(EX, STUCK).unwrap();
    let call = party.calls(0, 1).unwrap();
    party.cannot_wait(1, 0);
    drop((call, own));
}

#[test]
fn a_guest_cannot_call_itself() {
    let party = Party::of(1);
    assert!(party.calls(0, 0).unwrap_err().is_deadlock());
}

/// 0 calls 1, which waits for 2, which waits for 0. The last one to wait gets the error.
#[test]
fn a_circle_of_calls_and_waits_is_told_to_whoever_closes_it() {
    let party = Party::of(3);
    let call = party.calls(0, 1).unwrap();
    let waits = party.waits(1, 2);
    party.cannot_wait(2, 0);
    drop(waits);
    let last = party.waits(2, 0);
    party.cannot_wait(1, 2);
    drop(call);
    let waits = party.waits(1, 2);
    assert!(party.calls(0, 1).unwrap_err().is_deadlock());
    drop((last, waits));
}

#[test]
fn a_circle_of_calls_alone_is_one() {
    let party = Party::of(3);
    let calls = [party.calls(0, 1), party.calls(1, 2)].map(Result::unwrap);
    assert!(party.calls(2, 0).unwrap_err().is_deadlock());
    // The last callee may not wait for any of its callers.
    party.cannot_wait(2, 0);
    party.cannot_wait(2, 1);
    drop(calls);
    drop(party.calls(2, 0).unwrap());
}

#[test]
fn without_a_circle_there_is_no_alarm() {
    let mut party = Party::of(4);
    let call = party.calls(0, 1).unwrap();
    // 1 waits for 2, which waits for 3, which runs.
    let one = party.waits(1, 2);
    let two = party.waits(2, 3);
    let another = party.calls(0, 3).unwrap();
    drop(party.held.pop());
    let two = block_on(two).unwrap();
    drop(party.held.pop());
    let one = block_on(one).unwrap();
    drop((call, another, one, two));
    // Nothing that is over is left behind: the opposite way is open.
    let back = party.calls(1, 0).unwrap();
    let waits = party.waits(1, 0);
    party.cannot_wait(0, 1);
    drop((back, waits));
}

#[test]
fn each_of_several_callers_counts_until_its_call_is_over() {
    let party = Party::of(3);
    let first = party.calls(0, 2).unwrap();
    let [again, second] = [party.calls(0, 2), party.calls(1, 2)].map(Result::unwrap);
    party.cannot_wait(2, 0);
    party.cannot_wait(2, 1);
    drop(first);
    // Its other call continues.
    party.cannot_wait(2, 0);
    drop(again);
    drop(party.waits(2, 0));
    party.cannot_wait(2, 1);
    drop(second);
    drop(party.waits(2, 1));
}
