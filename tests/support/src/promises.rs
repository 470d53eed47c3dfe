//! The promises, each once, for every stand and every protocol to which it applies.
//!
//! The macro [`promises!`](crate::promises!) makes the tests of one stand, named after the promise
//! and the protocol, as in `peers::p03_waits::flock`. `tests/README.md` lists what each promise
//! says.

pub mod foreign_programs;
pub mod p01_identity;
pub mod p02_free;
pub mod p03_waits;
pub mod p04_not_reentrant;
pub mod p05_any_handle;
pub mod p06_release_errors;
pub mod p07_guards;
pub mod p08_one_timeout;
pub mod p09_removal;
pub mod p10_order;
pub mod p11_path;
pub mod p12_abandoned;
pub mod p13_on_disk;
pub mod p14_inspect_and_break;
pub mod p15_errors;
pub mod p16_scoped_call;

use std::time::{Duration, Instant};

use crate::subject::{AnySubject, Subject};
use crate::waits::{AT_ONCE, STUCK};

/// The longest and the shortest timeouts, and none.
const TIMEOUTS: [&str; 3] = ["none", "0", "60000"];

/// How many milliseconds the last command of a subject took.
fn elapsed(subject: &mut dyn Subject) -> u128 {
    let elapsed = subject.ok("elapsed");
    elapsed.parse().expect("a number of milliseconds")
}

/// The last command of a subject did not wait.
#[track_caller]
fn was_at_once(subject: &mut dyn Subject) {
    let time = elapsed(subject);
    assert!(time < AT_ONCE.as_millis(), "it took {time} ms");
}

/// The last command of a subject waited for `timeout` milliseconds, and not much longer.
#[track_caller]
fn took(subject: &mut dyn Subject, timeout: u128) {
    let time = elapsed(subject);
    let expected = timeout..timeout + AT_ONCE.as_millis();
    assert!(expected.contains(&time), "{timeout} ms became {time}");
}

/// The place of the one waiter that is granted the lock next; all others still wait.
#[track_caller]
fn next_granted(waiters: &mut [AnySubject]) -> usize {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < STUCK, "no waiter is granted the lock");
        let mut granted = Vec::new();
        for (i, waiter) in waiters.iter_mut().enumerate() {
            if let Some(answer) = waiter.answer_within(Duration::from_millis(1)) {
                assert_eq!(answer, "ok");
                granted.push(i);
            }
        }
        match granted[..] {
            [] => {}
            [next] => return next,
            _ => panic!("two holders"),
        }
    }
}

/// Makes the tests of a stand, whose type is in scope: of every promise, or of those named behind
/// a colon. Those of the protocol `sqlite` have the attributes in brackets.
#[macro_export]
macro_rules! promises {
    ($stand:ident $sqlite:tt) => {
        $crate::promises! { $stand $sqlite:
            p01_identity p02_free p03_waits p04_not_reentrant p05_any_handle p06_release_errors
            p07_guards p08_one_timeout p09_removal p10_order p11_path p12_abandoned p13_on_disk
            p14_inspect_and_break p15_errors p16_scoped_call
        }
    };
    ($stand:ident $sqlite:tt: $($promise:ident)+) => {
        $(mod $promise {
            use super::$stand;
            $crate::promise!($promise $stand $sqlite);
        })+
    };
}

/// Makes the tests of one promise, for the protocols to which it applies.
#[doc(hidden)]
#[macro_export]
macro_rules! promise {
    (p09_removal $stand:ident $sqlite:tt) => {
        $crate::kernel_promise!(p09_removal $stand);
    };
    (p10_order $stand:ident $sqlite:tt) => {
        $crate::kernel_promise!(p10_order $stand);
    };
    (foreign_programs $stand:ident $sqlite:tt) => {
        $crate::kernel_promise!(foreign_programs $stand);
    };
    ($promise:ident $stand:ident [$(#[$sqlite:meta])?]) => {
        $crate::kernel_promise!($promise $stand);
        $crate::promise_test!(link Link $promise $stand);
        $crate::promise_test!(#[cfg(unix)] symlink Symlink $promise $stand);
        $crate::promise_test!(mkdir Mkdir $promise $stand);
        $crate::promise_test!(pid_file PidFile $promise $stand);
        $crate::promise_test!(soft Soft $promise $stand);
        $crate::promise_test!($(#[$sqlite])? sqlite Sqlite $promise $stand);
    };
}

/// Makes the tests of a promise for the kernel protocols.
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_promise {
    ($promise:ident $stand:ident) => {
        $crate::promise_test!(native Native $promise $stand);
        $crate::promise_test!(flock Flock $promise $stand);
        $crate::promise_test!(fcntl Fcntl $promise $stand);
    };
}

/// Makes one test.
#[doc(hidden)]
#[macro_export]
macro_rules! promise_test {
    ($(#[$condition:meta])* $name:ident $protocol:ident $promise:ident $stand:ident) => {
        #[test]
        $(#[$condition])*
        fn $name() {
            let stand = <$stand as $crate::subject::Stand>::new($crate::Protocol::$protocol);
            $crate::promises::$promise::is_kept(&stand);
        }
    };
}
