//! The engine against raw system calls and `fs4`: uncontended, and handed from process to
//! process. `cargo bench -p locket --no-default-features --bench engine`

mod table;

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::pin::pin;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use fs4::FileExt;
use locket::{Engine, LockFile, Mode, Options, Protocol};
use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use table::{Group, Row, heading, line};

const EX: Mode = Mode::Exclusive;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--contender") {
        return contend(&args.next().unwrap(), Path::new(&args.next().unwrap()));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    File::create(&path).unwrap();
    heading();
    by_path(&path, Protocol::Flock);
    by_path(&path, Protocol::Native);
    on_a_handle(&path, Protocol::Flock);
    on_a_handle(&path, Protocol::Native);
    checked(&path);
    between_processes(&path);
    inside_the_process(&path);
}

fn row<'a>(name: &'a str, mut run: impl FnMut() + 'a) -> Row<'a> {
    Row {
        name,
        run: Box::new(move |count| (0..count).for_each(|_| run())),
    }
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// The second lock of the native protocol, raw.
#[expect(unsafe_code, reason = "the baseline is the raw system call")]
fn record_lock(file: &File, kind: i32) {
    // SAFETY: `lock` is plain data, valid during the call; the descriptor is open.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as libc::c_short;
        let fd = std::os::fd::AsRawFd::as_raw_fd(file);
        assert_eq!(libc::fcntl(fd, libc::F_OFD_SETLK, &lock), 0);
    }
}

fn raw_lock(file: &File, protocol: Protocol) {
    flock(file, FlockOperation::NonBlockingLockExclusive).unwrap();
    if protocol == Protocol::Native {
        record_lock(file, libc::F_WRLCK);
    }
}

fn raw_unlock(file: &File, protocol: Protocol) {
    if protocol == Protocol::Native {
        record_lock(file, libc::F_UNLCK);
    }
    flock(file, FlockOperation::Unlock).unwrap();
}

fn ready(lock: &LockFile) -> locket::Guard {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(lock.acquire_async(EX, None)).poll(&mut cx) {
        Poll::Ready(guard) => guard.unwrap(),
        Poll::Pending => unreachable!("nobody holds it"),
    }
}

fn by_path(path: &Path, protocol: Protocol) {
    let engine = Engine::new();
    let options = Options::new().protocol(protocol);
    let title = format!("lock + unlock by path, {protocol}");
    let baseline = match protocol {
        Protocol::Native => "raw open + flock + record lock + fstat + stat + close",
        _ => "raw open + flock + fstat + stat + close",
    };
    let mut rows = vec![row(baseline, || {
        let file = open(path);
        raw_lock(&file, protocol);
        black_box((
            rustix::fs::fstat(&file).unwrap(),
            rustix::fs::stat(path).unwrap(),
        ));
    })];
    if protocol == Protocol::Flock {
        rows.push(row("fs4 open + lock + drop, no check", || {
            let file = open(path);
            FileExt::lock(&file).unwrap();
        }));
    }
    rows.push(row("locket, async", || {
        drop(ready(&engine.open_with(path, &options).unwrap()));
    }));
    rows.push(row("locket, blocking", || {
        drop(
            engine
                .open_with(path, &options)
                .unwrap()
                .acquire(EX, None)
                .unwrap(),
        );
    }));
    Group {
        title: &title,
        rows,
        target: Some(1.10),
    }
    .run(300, 200);
}

fn on_a_handle(path: &Path, protocol: Protocol) {
    let options = Options::new().protocol(protocol).pinned(true);
    let lock = Engine::new().open_with(path, &options).unwrap();
    let file = open(path);
    let title = format!("lock + unlock on an open handle, no identity check, {protocol}");
    let mut rows = vec![row("raw lock + unlock", || {
        raw_lock(&file, protocol);
        raw_unlock(&file, protocol);
    })];
    if protocol == Protocol::Flock {
        rows.push(row("fs4 lock + unlock", || {
            FileExt::lock(&file).unwrap();
            FileExt::unlock(&file).unwrap();
        }));
    }
    rows.push(row("locket, async", || drop(ready(&lock))));
    rows.push(row("locket, blocking, with a timeout", || {
        drop(lock.acquire(EX, Duration::from_secs(30)).unwrap());
    }));
    rows.push(row("locket, blocking", || {
        drop(lock.acquire(EX, None).unwrap());
    }));
    Group {
        title: &title,
        rows,
        target: Some(1.20),
    }
    .run(300, 500);
}

fn checked(path: &Path) {
    let options = Options::new().protocol(Protocol::Flock);
    let lock = Engine::new().open_with(path, &options).unwrap();
    let file = open(path);
    let rows = vec![
        row("raw flock + stat + fstat + unlock", || {
            raw_lock(&file, Protocol::Flock);
            black_box((
                rustix::fs::stat(path).unwrap(),
                rustix::fs::fstat(&file).unwrap(),
            ));
            raw_unlock(&file, Protocol::Flock);
        }),
        row("locket, blocking", || {
            lock.acquire(EX, None).unwrap().release().unwrap();
        }),
    ];
    let title = "lock + unlock on an open handle, identity checked after the grant and at release";
    Group {
        title,
        rows,
        target: None,
    }
    .run(300, 500);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// Nanoseconds on a clock that all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The other process: for each line it reads, acquires in its manner, and answers when it had it.
fn contend(manner: &str, path: &Path) {
    let options = Options::new().protocol(Protocol::Flock);
    let lock = Engine::new().open_with(path, &options).unwrap();
    let file = open(path);
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut line = String::new();
    while input.read_line(&mut line).unwrap() > 0 {
        let had = match manner {
            "flock" => {
                flock(&file, FlockOperation::LockExclusive).unwrap();
                let had = now();
                flock(&file, FlockOperation::Unlock).unwrap();
                had
            }
            "fs4" => {
                FileExt::lock(&file).unwrap();
                let had = now();
                FileExt::unlock(&file).unwrap();
                had
            }
            "blocking" => lock.acquire(EX, None).map(|_guard| now()).unwrap(),
            "timeout" => lock
                .acquire(EX, Duration::from_secs(30))
                .map(|_guard| now())
                .unwrap(),
            "async" => block_on(lock.acquire_async(EX, None))
                .map(|_guard| now())
                .unwrap(),
            _ => unreachable!("{manner}"),
        };
        output.write_all(&had.to_ne_bytes()).unwrap();
        output.flush().unwrap();
        line.clear();
    }
}

struct Contender {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    times: Vec<u64>,
}

fn between_processes(path: &Path) {
    let manners = [
        ("blocking flock(2)", "flock"),
        ("fs4, blocking", "fs4"),
        ("locket, async", "async"),
        ("locket, blocking, with a timeout", "timeout"),
        ("locket, blocking", "blocking"),
    ];
    let mut contenders = manners.map(|(name, manner)| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--contender".as_ref(), manner.as_ref(), path.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Contender {
            name,
            child,
            input,
            output: BufReader::new(output),
            times: Vec::new(),
        }
    });
    let file = open(path);
    let inode = format!(
        ":{} ",
        std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
    );
    for round in 0..300 {
        for i in 0..contenders.len() {
            let contender = &mut contenders[(i + round) % 5];
            flock(&file, FlockOperation::LockExclusive).unwrap();
            contender.input.write_all(b"\n").unwrap();
            let waits = |locks: String| {
                locks
                    .lines()
                    .any(|l| l.contains("->") && l.contains(&inode))
            };
            while !waits(std::fs::read_to_string("/proc/locks").unwrap()) {
                thread::yield_now();
            }
            // It is in the queue; let it fall asleep.
            thread::sleep(Duration::from_micros(200));
            let released = now();
            flock(&file, FlockOperation::Unlock).unwrap();
            let mut had = [0; 8];
            contender.output.read_exact(&mut had).unwrap();
            contender
                .times
                .push(u64::from_ne_bytes(had).saturating_sub(released));
        }
    }
    println!("hand-off between two processes: release in one, running in the other");
    let median = |times: &[u64]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[times.len() / 2] as f64
    };
    let base = median(&contenders[0].times);
    for (index, contender) in contenders.into_iter().enumerate() {
        let time = median(&contender.times);
        let target = [None, None, Some(2.8), Some(1.2), Some(1.2)][index];
        line(
            contender.name,
            time,
            (index > 0).then(|| time / base),
            target,
        );
        drop((contender.input, contender.output));
        let mut child = contender.child;
        child.wait().unwrap();
    }
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn inside_the_process(path: &Path) {
    const WAITERS: usize = 10_000;
    println!("inside the process, {WAITERS} tasks waiting for one file");
    let lock = Engine::new().open(path).unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut waiters = Vec::with_capacity(WAITERS);
    let (memory, start) = (resident(), cpu());
    for _ in 0..WAITERS {
        let mut acquire = Box::pin(lock.acquire_async(EX, None));
        assert!(acquire.as_mut().poll(&mut cx).is_pending());
        waiters.push(acquire);
    }
    let enqueue = cpu() - start;
    let each = (resident() - memory) as f64 / WAITERS as f64;
    let start = Instant::now();
    let before = cpu();
    drop(guard);
    let mut handed = 0;
    for mut waiter in waiters {
        // Most are handed on at once; after each bounded run the kernel is asked again.
        match waiter.as_mut().poll(&mut cx) {
            Poll::Ready(guard) => drop(guard.unwrap()),
            Poll::Pending => drop(block_on(waiter).unwrap()),
        }
        handed += 1;
    }
    let (spent, took) = (cpu() - before, start.elapsed());
    let per = |time: Duration| time.as_nanos() as f64 / f64::from(handed);
    line("enqueue, processor time", per(enqueue), None, None);
    line(
        "hand-off, processor time of the thread (target: 1 µs)",
        per(spent),
        None,
        None,
    );
    line("hand-off, elapsed", per(took), None, None);
    println!(
        "  {:<64} {each:>8.0} B {:>8} {:>8}",
        "memory of a waiter (target: 600 B)", "", ""
    );
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}
