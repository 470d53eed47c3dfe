//! Locks on servers that fail: leaders are killed, servers stopped and restarted, connections lose
//! answers, clients are killed, or stopped for longer than their lease, and the wall clocks of the clients
//! and of PostgreSQL are set.
//!
//! The protected number is in a store that knows tokens. Each holder journals from when to when it was
//! told that it held the lock. `etcdctl lock` and `psql` take part.

mod history;
pub(crate) mod worker;

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use locket_test_support::servers::clock::Clock;
use locket_test_support::servers::etcd::Etcd;
use locket_test_support::servers::postgres::Postgres;
use locket_test_support::servers::proxy::{Proxy, Traffic};
use rustix::process::{Pid, Signal, kill_process};

use self::worker::{Journal, Role, Section, Store, now};
use crate::stage::{Context, Outcome};

/// How long each part lasts.
const TIME: Duration = Duration::from_secs(40);

/// The lease of the workers.
const TTL: Duration = Duration::from_secs(2);

/// That of `etcdctl`, in seconds, which leaves it behind.
const CTL_TTL: u32 = 8;

const NAME: &str = "torture/a";
const WORKERS: usize = 5;

/// The workers of one part: all but the last connect directly, the last through a proxy.
struct Clients {
    urls: Vec<String>,
    folder: tempfile::TempDir,
    children: Vec<Child>,
    /// One each, if clocks can be set.
    clocks: Vec<Clock>,
}

impl Clients {
    fn start(urls: Vec<String>, chance: &mut fastrand::Rng) -> Result<Self> {
        let mut clients = Self {
            urls,
            folder: tempfile::tempdir()?,
            children: Vec::new(),
            clocks: (0..WORKERS).map_while(|_| Clock::start()).collect(),
        };
        for number in 0..WORKERS {
            let child = clients.spawn(number, chance.u64(..))?;
            clients.children.push(child);
        }
        Ok(clients)
    }

    fn spawn(&self, number: usize, seed: u64) -> Result<Child> {
        let role = Role {
            url: self.urls[number.min(self.urls.len() - 1)].clone(),
            name: NAME.to_owned(),
            folder: self.folder.path().to_owned(),
            number,
            seed,
            ttl: TTL,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("server-worker")
            .arg(serde_json::to_string(&role)?);
        if let Some(clock) = self.clocks.get(number) {
            clock.rule(&mut command);
        }
        Ok(command.stdin(Stdio::null()).spawn()?)
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        Ok(kill_process(
            Pid::from_child(&self.children[number]),
            signal,
        )?)
    }

    fn kill(&mut self, number: usize) -> Result<()> {
        self.children[number].kill()?;
        self.children[number].wait()?;
        if let Some(clock) = self.clocks.get(number) {
            clock.tidy_up_after(self.children[number].id());
        }
        Ok(())
    }

    /// Sets the clock of one worker.
    fn set_a_clock(&self, chance: &mut fastrand::Rng, outcome: &mut Outcome) {
        if let Some(clock) = chance.choice(&self.clocks) {
            clock.set(wrong(chance));
            outcome.did("clocks of clients set", 1);
        }
    }

    /// Kills one worker or stops it for longer than its lease; another one takes the place of a dead one.
    fn disturb(&mut self, chance: &mut fastrand::Rng, outcome: &mut Outcome) -> Result<()> {
        let number = chance.usize(..WORKERS);
        if chance.bool() {
            self.kill(number)?;
            self.children[number] = self.spawn(number, chance.u64(..))?;
            outcome.did("clients killed", 1);
        } else {
            self.signal(number, Signal::STOP)?;
            thread::sleep(TTL + Duration::from_secs(1));
            self.signal(number, Signal::CONT)?;
            outcome.did("clients stopped past their lease", 1);
        }
        Ok(())
    }

    /// Ends all, and says what their journals show.
    fn finish(mut self, outcome: &mut Outcome) -> Result<()> {
        for number in 0..WORKERS {
            let ended = self.children[number].try_wait()?;
            outcome.must(ended.is_none(), || format!("a worker ended: {ended:?}"));
            self.kill(number)?;
        }
        if self.clocks.is_empty() {
            let clocks = "clocks that are set, since libfaketime is not installed";
            outcome.omitted.push(clocks.to_owned());
        }
        let sections = history::read(self.folder.path())?;
        let longest = history::check(&sections, outcome);
        let wrote = sections.iter().filter(|section| section.wrote).count() as u64;
        let number = Store::new(self.folder.path()).number()?;
        // A worker that is killed between its write and its journal leaves one that is not told.
        let killed = count(outcome, "clients killed") + WORKERS as u64;
        outcome.must((wrote..=wrote + killed).contains(&number), || {
            format!("{wrote} writes were accepted, and the number is {number}")
        });
        outcome.must(wrote > 50, || format!("only {wrote} writes were made"));
        let lost = sections.iter().filter(|section| section.lost).count();
        outcome.did("holds", sections.len() as u64);
        outcome.did("losses that the holder knew of", lost as u64);
        if let Some(longest) = longest {
            let figure = format!(
                "{:.1} s, with a lease of {} s",
                longest.as_secs_f64(),
                TTL.as_secs()
            );
            outcome.measured("longest time without a holder", figure);
        }
        Ok(())
    }
}

/// By how many seconds a clock is wrong: up to a day, either way.
fn wrong(chance: &mut fastrand::Rng) -> i64 {
    const DAY: i64 = 86_400;
    chance.i64(-DAY..=DAY)
}

fn had_turns(outcome: &mut Outcome, what: &str) {
    let turns = count(outcome, what);
    outcome.must(turns > 0, || format!("there were no {what}"));
}

fn count(outcome: &Outcome, what: &str) -> u64 {
    let found = outcome.amounts.iter().find(|(name, _)| name == what);
    found.map_or(0, |(_, times)| *times)
}

/// Another program's turn: `turn` acquires, calls what it is given with the token, and releases. Returns
/// whether it had the lock: it may fail while the server is away. What it did not release, its lease ends.
fn foreign(
    clients: &Clients,
    by: &str,
    turn: impl FnOnce(&mut dyn FnMut(u64)) -> Result<()>,
) -> Result<bool> {
    let store = Store::new(clients.folder.path());
    let mut held_by = None;
    let held = &mut |token| {
        let from = now();
        let number = store.read(token).unwrap_or_default();
        thread::sleep(Duration::from_millis(2));
        let wrote = number.is_some_and(|number| store.write(token, number + 1).unwrap_or(false));
        held_by = Some(Section {
            by: by.to_owned(),
            token,
            from,
            to: now(),
            wrote,
            lost: false,
        });
    };
    let _ = turn(held);
    if let Some(section) = &held_by {
        Journal::open(clients.folder.path(), by)?.add(section)?;
    }
    Ok(held_by.is_some())
}

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    etcd(context, &mut outcome)?;
    postgres(context, &mut outcome)?;
    Ok(outcome)
}

/// Three members, of which the leader is killed again and again.
fn etcd(context: &Context, outcome: &mut Outcome) -> Result<()> {
    let Some(mut cluster) = Etcd::start(3) else {
        outcome
            .omitted
            .push("etcd, which is not installed".to_owned());
        return Ok(());
    };
    let mut chance = context.chance(1);
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let direct = cluster.url("locks");
    let through = format!("etcd://{}/locks", proxy.address());
    let urls = [vec![direct; WORKERS - 1], vec![through]].concat();
    let mut clients = Clients::start(urls, &mut chance)?;
    let (start, mut round) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        thread::sleep(Duration::from_millis(chance.u64(500..1500)));
        round += 1;
        clients.set_a_clock(&mut chance, outcome);
        match round % 3 {
            0 => {
                if let Some(leader) = cluster.leader() {
                    cluster.kill(leader);
                    thread::sleep(Duration::from_millis(500));
                    cluster.begin(leader);
                    cluster.wait_until_it_serves();
                    outcome.did("leaders killed", 1);
                }
            }
            1 => clients.disturb(&mut chance, outcome)?,
            _ => {
                for traffic in [Traffic::LosesAnswers, Traffic::Breaks, Traffic::Flows] {
                    proxy.set(traffic);
                    thread::sleep(Duration::from_millis(300));
                }
                outcome.did("connections disturbed", 1);
            }
        }
        // Between the faults, so that its section has an end: etcdctl does not notice a loss.
        let prefix = format!("/locks/{NAME}");
        let had = foreign(&clients, "etcdctl", |held| {
            let mut lock = cluster.lock(&prefix, CTL_TTL);
            held(lock.held());
            lock.release();
            Ok(())
        })?;
        outcome.did("turns of etcdctl", had.into());
    }
    had_turns(outcome, "turns of etcdctl");
    clients.finish(outcome)?;
    // The leases of the killed end.
    let longest = Duration::from_secs(CTL_TTL.into());
    let end = Instant::now() + longest + Duration::from_secs(10);
    let left = || (cluster.keys("/locks").len(), cluster.leases().len());
    while left() != (0, 0) && Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
    }
    let left = left();
    outcome.must(left == (0, 0), || {
        format!("{} keys and {} leases are left", left.0, left.1)
    });
    Ok(())
}

/// A server that is stopped, crashes and ends sessions.
fn postgres(context: &Context, outcome: &mut Outcome) -> Result<()> {
    let clock = Clock::start();
    let server = match &clock {
        Some(clock) => Postgres::start_by(clock),
        None => Postgres::start(&[]),
    };
    let Some(mut server) = server else {
        outcome
            .omitted
            .push("PostgreSQL, which is not installed".to_owned());
        return Ok(());
    };
    let mut chance = context.chance(2);
    let url = server.url("postgres");
    let mut clients = Clients::start(vec![url], &mut chance)?;
    let key = format!("('x' || left(encode(sha256('{NAME}'), 'hex'), 16))::bit(64)::bigint");
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < TIME {
        thread::sleep(Duration::from_millis(chance.u64(500..1500)));
        round += 1;
        clients.set_a_clock(&mut chance, outcome);
        if let Some(clock) = &clock {
            clock.set(wrong(&mut chance));
            outcome.did("settings of the clock of the PostgreSQL server", 1);
        }
        match round % 4 {
            0 => {
                let stopped = server.stop();
                thread::sleep(TTL + Duration::from_secs(1));
                drop(stopped);
                outcome.did("stops of the PostgreSQL server", 1);
            }
            1 => clients.disturb(&mut chance, outcome)?,
            2 => {
                server.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'",
                );
                outcome.did("sessions ended", 1);
            }
            _ => {
                server.crash();
                server.restart();
                outcome.did("crashes of the PostgreSQL server", 1);
            }
        }
        let had = foreign(&clients, "psql", |held| {
            let mut session = server.psql();
            session.ask(&format!("SELECT pg_advisory_lock({key})"));
            let token = session.ask("SELECT nextval('locket_token')");
            held(token.trim().parse()?);
            session.ask(&format!("SELECT pg_advisory_unlock({key})"));
            Ok(())
        })?;
        outcome.did("turns of psql", had.into());
    }
    had_turns(outcome, "turns of psql");
    clients.finish(outcome)
}
