//! A try for an existence lock can take long: the directory may be full, or the file system slow. Only
//! waiters for that lock are delayed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// How long the tries of the test take.
const SLOW: Duration = Duration::from_secs(8);

/// The timeout of the waiters for other locks.
const BRIEF: Duration = Duration::from_millis(300);

/// The most that a wait may exceed its timeout on a busy machine. Far less than the try takes.
const MORE: Duration = Duration::from_secs(2);

/// Runs this program under `strace` in one of its roles and returns its exit code. Returns none if there is
/// no `strace`, which CI must have.
fn traced(options: &[&str], role: &str, dir: &Path) -> Option<i32> {
    let mut strace = Command::new("strace");
    strace
        .arg("-f")
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .args([
            "slow_tries::as_another_process",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("ROLE", role)
        .env("FOLDER", dir)
        .stdin(Stdio::null());
    match strace.status() {
        Ok(status) => status.code(),
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "CI must have strace: {e}");
            not_tested(format_args!("no strace here: {e}"));
            None
        }
    }
}

#[test]
#[ignore = "started by other tests"]
fn as_another_process() {
    let Ok(role) = std::env::var("ROLE") else {
        return;
    };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let dir = PathBuf::from(std::env::var("FOLDER").unwrap());
    match role.as_str() {
        "wait beside a slow try" => wait_beside_a_slow_try(&dir),
        "look" => look(&dir),
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn a_slow_try_delays_no_waiter_for_another_lock() {
    let dir = Dir::new();
    // The system call that reads a directory.
    let slow = format!("inject=getdents64:delay_enter={}", SLOW.as_micros());
    let options = ["-o", "/dev/null", "-e", "trace=getdents64", "-e", &slow];
    let mut shown = "a delay";
    for _ in 0..3 {
        match traced(&options, "wait beside a slow try", dir.0.path()) {
            // A busy machine delays as well, but not in every round.
            Some(TOO_LATE) => {}
            Some(TOO_QUICK) => shown = "nothing: the machine is too busy",
            Some(code) => return assert_eq!(code, 0),
            None => return,
        }
        fs::remove_file(dir.path("x.1-1")).unwrap();
    }
    panic!("no round has passed, which shows {shown}");
}

/// The exit code if something was delayed while the try was under way.
const TOO_LATE: i32 = 3;

/// The exit code if the try ended before the other waits did, which shows nothing.
const TOO_QUICK: i32 = 2;

fn wait_beside_a_slow_try(dir: &Path) {
    let engine = Engine::new();
    let limits = Limits::new().longest_hold(Some(BRIEF));
    let [attacker, victim, third] = [(); 3].map(|()| guest(&engine, dir, Limits::new()));
    let hasty = guest(&engine, dir, limits);
    fs::write(dir.join("slow.lock"), "").unwrap();
    let fourth = engine.open(dir.join("other")).unwrap();
    let _fourth = fourth.acquire(EX, STUCK).unwrap();
    let wanted = open_as(&attacker, "wanted", Protocol::Native);
    let _wanted = wanted.acquire(EX, STUCK).unwrap();
    let more = open_as(&victim, "more", Protocol::Native);
    let _more = more.acquire(EX, STUCK).unwrap();

    // The attacker waits for the slow lock, and a try is made for it now and then. Once the lock file
    // has a second name, each try reads the directory to find the holder.
    let slow = open_as(&attacker, "slow", Protocol::Link);
    let mut waits = slow.acquire_suspended(EX, None).unwrap();
    assert!(poll(&mut waits).is_pending());
    fs::hard_link(dir.join("slow.lock"), dir.join("x.1-1")).unwrap();
    let options = locket::Options::new().protocol(Protocol::Link);
    let looks = engine.open_with(dir.join("slow"), &options).unwrap();
    eventually("a try is under way", is_reading_a_directory);
    // Nor does it delay what asks for the state of the lock.
    let (done, looked) = mpsc::channel();
    thread::spawn(move || done.send(format!("{looks:?}")));
    if let Err(e) = looked.recv_timeout(BRIEF + MORE) {
        println!("the state is not known: {e}");
        std::process::exit(TOO_LATE);
    }

    // The victim holds a lock and wants the attacker's. So the engine looks for a deadlock, and for that
    // at the lock that the attacker waits for.
    let wants = open_as(&victim, "wanted", Protocol::Native);
    thread::spawn(move || wants.acquire(EX, BRIEF).map(drop));
    let wanted = engine.open(dir.join("wanted")).unwrap();
    eventually("the victim waits, or has waited", || {
        !format!("{wanted:?}").contains("waiting: 0")
    });

    // All others are on time: the wait of a thread, the wait of a task, and the end of a hold.
    let on_time = |what: &str, start: Instant| {
        let time = start.elapsed();
        println!("{what}: {time:?}");
        if time >= BRIEF + MORE {
            std::process::exit(TOO_LATE);
        }
    };
    let other = open_as(&third, "other", Protocol::Native);
    let held = open_as(&hasty, "held", Protocol::Soft);
    let start = Instant::now();
    assert!(other.acquire(EX, BRIEF).unwrap_err().is_timeout());
    on_time("a thread", start);
    let start = Instant::now();
    let waits = other.acquire_suspended(EX, BRIEF).unwrap();
    assert!(block_on(waits).unwrap_err().is_timeout());
    on_time("a task", start);
    let start = Instant::now();
    let hold = held.acquire(EX, STUCK).unwrap();
    let lost = held.lost().unwrap();
    block_on(lost.wait());
    assert!(hold.release().unwrap_err().is_lost());
    on_time("a hold", start);
    // Without waiting for the threads that the try keeps busy.
    std::process::exit(if is_reading_a_directory() {
        0
    } else {
        TOO_QUICK
    });
}

/// Whether a thread of this process is about to read a directory. Does not list the threads, since
/// that would read a directory, but tries each number that one can have: from that of this process to
/// that which the system has given last, or around the end of the numbers.
fn is_reading_a_directory() -> bool {
    let call = format!("{} ", libc::SYS_getdents64);
    let number = |file, field| -> u32 {
        let text = fs::read_to_string(file).unwrap();
        text.split_whitespace().nth(field).unwrap().parse().unwrap()
    };
    let (me, last) = (std::process::id(), number("/proc/loadavg", 4));
    let (end, around) = match last < me {
        true => (number("/proc/sys/kernel/pid_max", 0), last),
        false => (last, 0),
    };
    (me..=end).chain(1..=around).any(|thread| {
        let calls = fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
        calls.is_ok_and(|calls| calls.starts_with(&call))
    })
}

/// To find the holder of a hard link, the engine does not look at every name that could be that of a
/// holder.
#[test]
fn a_directory_full_of_names_costs_no_system_call_for_each() {
    const NAMES: usize = 10_000;
    let dir = Dir::new();
    let trace = Dir::new();
    fs::write(dir.path("k.lock"), "").unwrap();
    // Names of another file.
    fs::write(dir.path("host.1-1"), "").unwrap();
    for i in 2..NAMES {
        fs::hard_link(dir.path("host.1-1"), dir.path(&format!("host.1-{i}"))).unwrap();
    }
    fs::hard_link(dir.path("k.lock"), dir.path(&format!("host.1-{NAMES}"))).unwrap();
    let trace = trace.path("trace");
    let options = ["-o", trace.to_str().unwrap()];
    let Some(looked) = traced(&options, "look", dir.0.path()) else {
        return;
    };
    assert_eq!(looked, 0);
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("getdents64"), "the directory was not read");
    // This includes the system calls at the start of a program.
    let calls = trace.lines().count();
    println!("{calls} system calls");
    assert!(calls < NAMES / 5, "{calls}");
}

fn look(dir: &Path) {
    let guest = guest(&Engine::new(), dir, Limits::new());
    let lock = open_as(&guest, "k", Protocol::Link);
    assert!(lock.is_locked().unwrap());
    assert!(
        lock.acquire(EX, Duration::ZERO)
            .unwrap_err()
            .is_would_block()
    );
}
