//! Waits that end without the lock.

use super::*;

#[test]
fn stop_and_deadline_leave_nothing() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    let (holder, waiter) = (seat(&remote, "ends"), seat(&remote, "ends"));
    assert!(holder.try_lock(Mode::Exclusive).unwrap());
    for mode in [Mode::Exclusive, Mode::Shared] {
        for deadline in [Deadline::Now, after(Duration::from_millis(30))] {
            let error = waiter.wait(mode, deadline, &Stop::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        }
        let stop = Stop::default();
        thread::scope(|s| {
            let waits = s.spawn(|| waiter.wait(mode, NEVER, &stop));
            eventually("it waits", || locks(cluster, false) == 1);
            stop.stop();
            let error = waits.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        });
        let error = waiter.wait(mode, NEVER, &stop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        assert_eq!(waiter.standing(), Standing::Free);
    }
    eventually("none waits", || locks(cluster, false) == 0);
    // A server that does not answer ends neither later.
    let stopped = cluster.stop();
    let stop = Stop::default();
    stop.stop();
    let error = waiter.wait(Mode::Exclusive, NEVER, &stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let other = seat(&remote, "other");
    let error = other.wait(Mode::Exclusive, after(QUIESCENT), &Stop::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    drop(stopped);
    holder.unlock().unwrap();
    nothing_is_left(cluster);
    assert!(other.try_lock(Mode::Exclusive).unwrap());
}

/// Three hundred waits are canceled while the lock is released. Each either has it or has nothing.
#[test]
fn cancel_and_release_race() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    let (holder, waiter) = (seat(&remote, "race"), seat(&remote, "race"));
    let (mut grants, mut canceled) = (0, 0);
    let spin = |time: Duration| {
        let start = Instant::now();
        while start.elapsed() < time {
            thread::yield_now();
        }
    };
    for i in 0..300 {
        let first = holder.wait(Mode::Exclusive, after(STUCK), &Stop::default());
        first.expect("no canceled wait has it");
        let stop = Stop::default();
        thread::scope(|s| {
            let waits = s.spawn(|| waiter.wait(Mode::Exclusive, NEVER, &stop));
            // Some are stopped on their way there.
            if i % 10 > 0 {
                eventually("it waits", || locks(cluster, false) == 1);
            }
            // A request to cancel takes some milliseconds to the server, and a release less.
            let stops = s.spawn(|| {
                // Every fourth one just after the release.
                spin(Duration::from_micros(if i % 4 == 0 {
                    i % 75 * 10
                } else {
                    0
                }));
                stop.stop();
            });
            spin(Duration::from_micros(if i % 4 == 0 {
                0
            } else {
                i % 75 * 100
            }));
            holder.unlock().unwrap();
            stops.join().unwrap();
            match waits.join().unwrap() {
                Ok(()) => {
                    grants += 1;
                    assert!(!holder.try_lock(Mode::Shared).unwrap());
                    waiter.unlock().unwrap();
                }
                Err(e) => {
                    canceled += 1;
                    assert_eq!(e.kind(), ErrorKind::Interrupted, "{e}");
                    assert_eq!(waiter.standing(), Standing::Free);
                }
            }
        });
    }
    eprintln!("{grants} grants, {canceled} canceled");
    assert!(grants > 0 && canceled > 0, "one side always wins");
    nothing_is_left(cluster);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tester'";
    eventually("few sessions are kept", || {
        cluster.sql(sessions).parse::<usize>().unwrap() <= 10
    });
}
