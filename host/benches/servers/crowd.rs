//! Many wait for one lock: what each costs its process and the server while it does.
//!
//! A crowd gathers in a fresh process, which counts its own memory, connections and threads. The
//! server counts the requests.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use etcd_client::LockOptions;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::report::{Row, Section, Unit};
use crate::samples::Samples;
use crate::{EX, Plan, etcd};

/// The lease of each waiter in etcd's lock service: that of `etcdctl`, and our default.
const TTL: i64 = 10;

/// How late the statistics of PostgreSQL can be, about what sessions did that are idle since.
const LATE: Duration = Duration::from_secs(12);

/// A crowd, and its server.
pub(crate) struct Watched<'a> {
    pub(crate) crowd: &'a str,
    pub(crate) count: usize,
    /// Where the server is, as that crowd wants to know it.
    pub(crate) server: &'a str,
    /// How many requests the server has had.
    pub(crate) requests: &'a dyn Fn() -> u64,
    /// The processes of the server that look after the crowd.
    pub(crate) processes: &'a dyn Fn() -> Vec<u32>,
}

/// Rows with one sample each.
struct Figures(Vec<Row>);

impl Figures {
    fn add(&mut self, name: &str, unit: Unit, value: f64) {
        let mut samples = Samples::default();
        samples.push(value);
        self.0.push(Row::new(name, unit, samples));
    }

    fn rate(&mut self, plan: &Plan, requests: &dyn Fn() -> u64) {
        let time = Duration::from_secs(if plan.quick { 5 } else { 20 });
        let before = requests();
        thread::sleep(time);
        let rate = (requests() - before) as f64 / time.as_secs_f64();
        self.add("requests while they wait", Unit::PerSecond, rate);
    }
}

pub(crate) fn watch(plan: &Plan, title: &str, watched: Watched<'_>) -> Section {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--crowd", watched.crowd, watched.server])
        .env("LOCKET_BENCH_COUNT", watched.count.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut answer = || answers.next().expect("it answers").unwrap();
    assert_eq!(answer(), "gathered");
    let mut figures = Figures(Vec::new());
    thread::sleep(LATE);
    figures.rate(plan, watched.requests);
    let backing = (watched.processes)();
    let memory: usize = backing.iter().map(|process| memory(*process)).sum();
    writeln!(process.stdin.take().unwrap()).unwrap();
    let own = answer();
    let mut own = own.split(' ').map(|number| number.parse::<f64>().unwrap());
    let each = own.next().unwrap() / watched.count as f64;
    figures.add("memory of each, resident", Unit::Bytes, each);
    figures.add("connections", Unit::Count, own.next().unwrap());
    figures.add("threads", Unit::Count, own.next().unwrap());
    if !backing.is_empty() {
        figures.add("processes of the server", Unit::Count, backing.len() as f64);
        figures.add("their memory", Unit::Bytes, memory as f64);
    }
    let _ = process.kill();
    process.wait().unwrap();
    Section {
        title: title.to_owned(),
        rows: figures.0,
    }
}

/// A crowd of processes, of one waiter each.
pub(crate) fn watch_processes(
    plan: &Plan,
    title: &str,
    processes: &[u32],
    requests: &dyn Fn() -> u64,
) -> Section {
    let mut figures = Figures(Vec::new());
    figures.rate(plan, requests);
    let all: usize = processes.iter().map(|process| memory(*process)).sum();
    let each = all as f64 / processes.len() as f64;
    figures.add("memory of each", Unit::Bytes, each);
    let connections: usize = processes
        .iter()
        .map(|process| sockets(&process.to_string()))
        .sum();
    figures.add("connections", Unit::Count, connections as f64);
    Section {
        title: title.to_owned(),
        rows: figures.0,
    }
}

/// The share of a process in the memory that it uses, in bytes.
fn memory(process: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let share = maps.lines().find_map(|line| line.strip_prefix("Pss:"));
    let share = share.and_then(|share| share.trim().strip_suffix(" kB")?.parse().ok());
    share.unwrap_or(0_usize) << 10
}

fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// The connections over the network that a process has, by its sockets.
fn sockets(process: &str) -> usize {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let open = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let tcp = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    let inodes: Vec<_> = tcp
        .lines()
        .filter_map(|line| line.split_whitespace().nth(9))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    open.filter(|file| inodes.iter().any(|inode| file.as_os_str() == &inode[..]))
        .count()
}

/// The role of the process with the crowd.
pub(crate) fn gather(crowd: &str, server: &str) {
    let count = std::env::var("LOCKET_BENCH_COUNT").unwrap();
    let count: usize = count.parse().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let before = resident();
    let tasks = LocalSet::new();
    match crowd {
        "etcd-ours" | "postgres-ours" => {
            let url = match crowd {
                "etcd-ours" => format!("etcd://{server}/locks"),
                _ => server.to_owned(),
            };
            let lock = etcd::open(&url, "crowd");
            for _ in 0..count {
                tasks.spawn_local(lock.acquire_async(EX, None));
            }
        }
        "etcd-service" => runtime.block_on(tasks.run_until(in_the_service(server, count))),
        "postgres-sessions" => runtime.block_on(tasks.run_until(in_sessions(server, count))),
        other => unreachable!("{other}"),
    }
    // Each has asked by then, and has its answer that it waits.
    let entered = runtime.enter();
    let settled = tokio::time::sleep(Duration::from_secs(3));
    drop(entered);
    runtime.block_on(tasks.run_until(settled));
    println!("gathered");
    let (told, wait) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        told.send(()).unwrap();
    });
    // Leases are renewed meanwhile.
    runtime.block_on(tasks.run_until(wait)).unwrap();
    let memory = resident().saturating_sub(before);
    let threads = fs::read_dir("/proc/self/task").unwrap().count();
    println!("{memory} {} {threads}", sockets("self"));
    std::io::stdout().flush().unwrap();
    // Killed by then.
    thread::sleep(Duration::from_secs(60));
}

/// Each with a lease of its own: one lease could hold the lock twice.
async fn in_the_service(address: &str, count: usize) {
    let client = etcd_client::Client::connect([address], None).await.unwrap();
    for _ in 0..count {
        let mut client = client.clone();
        let lease = client.lease_grant(TTL, None).await.unwrap().id();
        let (mut keeper, mut stream) = client.lease_keep_alive(lease).await.unwrap();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(TTL.unsigned_abs()) / 3).await;
                keeper.keep_alive().await.unwrap();
                stream.message().await.unwrap();
            }
        });
        tokio::task::spawn_local(async move {
            let lease = LockOptions::new().with_lease(lease);
            client.lock("crowd", Some(lease)).await
        });
    }
}

async fn in_sessions(url: &str, count: usize) {
    for _ in 0..count {
        let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        let client = Rc::new(client);
        tokio::task::spawn_local(connection);
        tokio::task::spawn_local(
            async move { client.simple_query("SELECT pg_advisory_lock(1)").await },
        );
    }
}
