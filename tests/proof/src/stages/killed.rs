//! Processes are killed all the time, every other time one that holds a lock. Whoever waits gets it at
//! once, nobody enters too early, and in the end nothing is left locked.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use locket::{Engine, Mode, Protocol};

use crate::crew::{Crew, Foreign, Past};
use crate::participant::Kind;
use crate::plan::{Lock, Traffic};
use crate::stage::{Context, Outcome, percentile};

/// How long it goes on, and the time between two kills.
const TIME: Duration = Duration::from_secs(65);
const BETWEEN: Duration = Duration::from_millis(50);

/// How many processes there are at a time, and the workers of each.
const PROCESSES: usize = 6;
const WORKERS: [Kind; 4] = [Kind::Blocking, Kind::Blocking, Kind::Task, Kind::Task];

/// What programs of others lock with, and which lock. One that makes a directory is not among them:
/// killed between making it and naming itself in it, it leaves a lock of which nothing is proven.
const FOREIGN: [(&str, &str); 3] = [("flock", "native"), ("lockf", "fcntl"), ("link", "link")];

/// In how many of a hundred kills they are among the victims. To start another takes them as long as
/// ten processes of ours, and what is measured is not that.
const FOREIGN_KILLS: u8 = 10;

/// After a kill the next owner has the lock within this, 99 times of a hundred.
const NEXT_OWNER: Duration = Duration::from_millis(100);

/// What gives a lock back whose holder died, and so how fast it is.
fn family(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Sqlite => "in a database",
        protocol if protocol.is_name() => "by name",
        _ => "in the kernel",
    }
}

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut scene = Scene::set(context)?;
    let mut kills = [0, 0];
    let mut next = Instant::now();
    context.pass(TIME, || {
        next += BETWEEN;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let aimed = scene.kill()?;
        kills[usize::from(aimed)] += 1;
        Ok(())
    })?;
    let (table, locks) = (scene.crew.table().clone(), scene.traffic.locks.clone());
    let past = scene.crew.dismiss()?;
    outcome.did("kills", kills.iter().sum());
    outcome.did("of them of a holder", kills[1]);
    measure(&past, &locks, &mut outcome);
    for lock in &locks {
        let opened = Engine::new().open_with(table.lock(lock), &lock.options(&table))?;
        let free = opened.try_acquire(Mode::Exclusive);
        outcome.must(matches!(free, Ok(Some(_))), || {
            let holder = opened.holder();
            format!("{} is left locked: {free:?}, {holder:?}", lock.name)
        });
    }
    past.tell(&mut outcome);
    Ok(outcome)
}

/// How long it took until a killed holder's lock was somebody else's, who was waiting.
fn measure(past: &Past, locks: &[Lock], outcome: &mut Outcome) {
    let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for turn in past.history.turns() {
        let lock = locks.iter().find(|lock| lock.name == turn.lock);
        if let (Some(lock), Some(_), Some(_)) = (lock, &turn.after_kill_of, turn.next.section()) {
            families
                .entry(family(lock.protocol()))
                .or_default()
                .push(turn);
        }
    }
    for (family, turns) in families {
        let mut times: Vec<_> = turns.iter().map(|turn| turn.idle).collect();
        let mut at = |percent| percentile(&mut times, percent).unwrap_or_default();
        let (half, most, longest) = (at(50), at(99), at(100));
        outcome.did(&format!("locks taken over {family}"), turns.len() as u64);
        outcome.measured(
            &format!("next owner {family} at 50 %, 99 %, most"),
            format_args!("{half:.1?}, {most:.1?}, {longest:.1?}"),
        );
        outcome.must(most <= NEXT_OWNER, || {
            let last = turns.iter().max_by_key(|turn| turn.idle);
            format!("{family} the next owner comes late, at the latest {last:?}")
        });
    }
}

struct Scene {
    crew: Crew,
    traffic: Traffic,
    chance: fastrand::Rng,
    started: u64,
}

impl Scene {
    fn set(context: &Context) -> Result<Self> {
        let traffic = Traffic {
            locks: Protocol::ALL.iter().copied().map(Lock::of).collect(),
            shared: 20,
            limited: 10,
            abandoned: 5,
            lasting: 50,
            longest: Duration::from_millis(10),
            rest: Duration::ZERO,
            sections: None,
        };
        let mut scene = Self {
            crew: Crew::new()?,
            traffic,
            chance: context.chance(0),
            started: 0,
        };
        for _ in 0..PROCESSES {
            scene.start()?;
        }
        for (function, lock) in FOREIGN {
            scene.start_foreign(function, lock)?;
        }
        Ok(scene)
    }

    fn start(&mut self) -> Result<()> {
        self.started += 1;
        let name = format!("p{}", self.started);
        let seed = self.chance.u64(..);
        self.crew.start(&name, seed, &WORKERS, &self.traffic)
    }

    fn start_foreign(&mut self, function: &'static str, lock: &str) -> Result<()> {
        self.started += 1;
        let name = format!("{function}{}", self.started);
        let foreign = Foreign {
            function,
            locks: vec![lock.to_owned()],
            shared: 0,
            lasting: self.traffic.lasting,
            longest: self.traffic.longest.as_secs_f64(),
        };
        self.crew
            .start_foreign(&name, self.chance.u64(..), &foreign)
    }

    /// Kills a process, and starts another in its place; whether it was one that held a lock.
    fn kill(&mut self) -> Result<bool> {
        let spared = self.chance.u8(0..100) >= FOREIGN_KILLS;
        let candidates = |crew: &Crew, member| !(spared && function(crew.name(member)).is_some());
        let mut holder = None;
        if self.chance.bool() {
            holder = self
                .crew
                .any_holder(&self.traffic.locks, &mut self.chance)?
                .filter(|holder| candidates(&self.crew, *holder));
        }
        let anybody = 0..self.crew.size();
        let victim = holder.or_else(|| {
            let all: Vec<_> = anybody
                .filter(|member| candidates(&self.crew, *member))
                .collect();
            self.chance.choice(all)
        });
        let victim = victim.context("nobody is left to kill")?;
        let replaced = function(self.crew.name(victim));
        self.crew.kill(victim)?;
        match replaced {
            Some((function, lock)) => self.start_foreign(function, lock)?,
            None => self.start()?,
        }
        Ok(holder.is_some())
    }
}

/// What a process of this name locks with, and which lock, if it is a program of others.
fn function(name: &str) -> Option<(&'static str, &'static str)> {
    let mut all = FOREIGN.into_iter();
    all.find(|(function, _)| name.starts_with(function))
}
