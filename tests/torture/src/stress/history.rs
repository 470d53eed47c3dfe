//! What all participants did, put together, and whether it can have happened with locks that hold.
//!
//! All times are of one clock, and a section lies within the time for which its lock was held. So
//! two exclusive sections that overlap are proof that a lock was held twice, and there is no need to
//! search for an order that would explain what was seen: the order of entering is the only one.
//! Along it the counter must go up by one with each exclusive section, and the log must have one
//! line for each.
//!
//! A participant that was killed held its lock at least until the signal was sent. From then on others
//! may enter, since the system gives the lock back before it reports the death. How far the killed
//! one had come with the object, it tells by itself.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::stress::journal::{Event, Mode, Time, Why};
use crate::stress::object::{Line, Remains};

/// The time between entering and leaving.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// When it began.
    pub enter: Time,
    /// How it ended.
    pub end: End,
}

/// The end of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The participant released the lock.
    Left {
        /// Before it did.
        at: Time,
        /// The counter as it was on entering and on leaving; none if it was left alone.
        counted: Option<[u64; 2]>,
    },
    /// The participant learned that the lock had been taken away.
    Lost {
        /// When it did.
        at: Time,
    },
    /// The participant was killed.
    CutOff {
        /// Before the signal was sent.
        at: Time,
    },
}

impl End {
    /// When the participant left, was told that it had lost the lock, or was killed.
    pub fn at(&self) -> Time {
        match self {
            Self::Left { at, .. } | Self::Lost { at } | Self::CutOff { at } => *at,
        }
    }
}

/// What came of an attempt to get a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The participant got it.
    Entered(Section),
    /// It did not, for a reason that is part of the game.
    GaveUp(Why, Time),
    /// It failed.
    Failed(String, Time),
    /// It was killed while it waited.
    CutOff(Time),
}

/// An attempt to get a lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The participant.
    pub worker: String,
    /// The how-many-th of this participant.
    pub number: u64,
    /// Name of the lock.
    pub lock: String,
    /// What the hold shall exclude.
    pub mode: Mode,
    /// When it began.
    pub asked: Time,
    /// Its timeout, in nanoseconds.
    pub limit: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Attempt {
    /// The section that it led to.
    pub fn section(&self) -> Option<&Section> {
        match &self.outcome {
            Outcome::Entered(section) => Some(section),
            _ => None,
        }
    }

    /// When the participant stopped waiting.
    pub fn answered(&self) -> Time {
        match &self.outcome {
            Outcome::Entered(section) => section.enter,
            Outcome::GaveUp(_, at) | Outcome::Failed(_, at) | Outcome::CutOff(at) => *at,
        }
    }
}

/// A lock that was broken, and the times between which that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Break {
    /// Name of the lock.
    pub lock: String,
    /// Before the call, and after it.
    pub between: [Time; 2],
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Breach {
    /// Two held a lock at once that at most one may hold.
    Overlap,
    /// A line of the log is not whole, though nobody was killed over it.
    Torn,
    /// A section left no line.
    Missing,
    /// A line stands before one of an earlier section.
    OutOfOrder,
    /// A line belongs to no section, or to one that has its line already.
    Stray,
    /// A line was written outside its section: before it was entered, or after it was left or lost.
    Outside,
    /// A section found or left another number than those before it make up.
    Count,
    /// The number at the end is not the sum.
    Total,
    /// A lock was lost that nobody had broken.
    Lost,
    /// Who was told that the lock is lost got to release it all the same.
    AfterLost,
    /// A timeout came before its time, or where there was none.
    Timeout,
    /// An acquire or release failed.
    Failed,
    /// A participant stopped in the midst, though nobody killed it.
    Unfinished,
}

/// A broken promise, with what there is to look for the reason.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise.
    pub kind: Breach,
    /// By whom, when, against what.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// What all participants did.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All attempts, each participant's in order.
    pub attempts: Vec<Attempt>,
    /// All breaks.
    pub breaks: Vec<Break>,
    /// What the journals show by themselves.
    violations: Vec<Violation>,
}

impl History {
    /// Adds the journal of a participant; `killed` is when a signal was sent to it, if one was.
    ///
    /// # Errors
    ///
    /// Where the lines are not in an order that a participant writes.
    pub fn add(
        &mut self,
        worker: &str,
        events: &[Event],
        killed: Option<Time>,
    ) -> anyhow::Result<()> {
        let start = self.attempts.len();
        let mut open = false;
        for event in events {
            match event {
                Event::Broke { lock, from, at } => self.breaks.push(Break {
                    lock: lock.clone(),
                    between: [*from, *at],
                }),
                Event::Ask {
                    number,
                    lock,
                    mode,
                    limit,
                    at,
                } => {
                    if open {
                        bail!("{worker}: {event:?} before the attempt before has ended");
                    }
                    open = true;
                    self.attempts.push(Attempt {
                        worker: worker.to_owned(),
                        number: *number,
                        lock: lock.clone(),
                        mode: *mode,
                        asked: *at,
                        limit: *limit,
                        outcome: Outcome::CutOff(Time::MAX),
                    });
                }
                event => {
                    let attempt = self.attempts[start..].last_mut();
                    let attempt =
                        attempt.with_context(|| format!("{worker} begins with {event:?}"))?;
                    open = matches!(event, Event::Enter { .. });
                    if let Some(violation) = happen(attempt, event)? {
                        self.violations.push(violation);
                    }
                }
            }
        }
        if open && let Some(attempt) = self.attempts.last_mut() {
            let at = killed.unwrap_or(Time::MAX);
            match &mut attempt.outcome {
                Outcome::Entered(section) => section.end = End::CutOff { at },
                outcome => *outcome = Outcome::CutOff(at),
            }
            if killed.is_none() {
                self.violations.push(Violation {
                    kind: Breach::Unfinished,
                    text: format!("nobody killed {worker}, and it ended with {attempt:?}"),
                });
            }
        }
        Ok(())
    }

    /// How many sections there were.
    pub fn sections(&self) -> usize {
        let entered = |attempt: &&Attempt| attempt.section().is_some();
        self.attempts.iter().filter(entered).count()
    }

    /// How many sections ended with the lock taken away.
    pub fn losses(&self) -> u64 {
        let ends = self.attempts.iter().filter_map(Attempt::section);
        let lost = ends.filter(|section| matches!(section.end, End::Lost { .. }));
        lost.count() as u64
    }

    /// How often a lock went from one participant to another.
    pub fn hand_offs(&self) -> u64 {
        let locks = self.by_lock().into_values();
        let between = locks.map(|holds| {
            let other = |pair: &&[Hold<'_>]| pair[0].attempt.worker != pair[1].attempt.worker;
            holds.windows(2).filter(other).count() as u64
        });
        between.sum()
    }

    /// Everything that breaks a promise; `remains` is the protected object of each lock.
    pub fn check(&self, remains: &HashMap<String, Remains>) -> Vec<Violation> {
        let mut violations = self.violations.clone();
        violations.extend(self.attempts.iter().filter_map(answered_wrongly));
        let locks = self.by_lock();
        for (lock, holds) in &locks {
            let breaks: Vec<_> = self.breaks.iter().filter(|b| b.lock == *lock).collect();
            let lost = holds
                .iter()
                .filter_map(|hold| hold.lost_for_nothing(&breaks));
            violations.extend(lost);
            violations.extend(overlaps(holds, &breaks));
        }
        for (lock, remains) in remains {
            let holds = locks.get(lock.as_str()).map_or(&[][..], Vec::as_slice);
            violations.extend(ObjectCheck::new(lock, remains).through(holds));
        }
        violations
    }

    /// Each time that a lock was free while somebody waited for it, with the end of the section
    /// before. Waits that ended without the lock count as well; those that were cut off do not.
    pub fn idle_periods(&self) -> Vec<IdlePeriod> {
        let mut attempts: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
        for attempt in &self.attempts {
            attempts.entry(&attempt.lock).or_default().push(attempt);
        }
        attempts.into_values().flat_map(idle_periods).collect()
    }

    /// The sections of each lock, in the order of entering.
    fn by_lock(&self) -> BTreeMap<&str, Vec<Hold<'_>>> {
        let mut locks: BTreeMap<&str, Vec<Hold<'_>>> = BTreeMap::new();
        for attempt in &self.attempts {
            if let Some(section) = attempt.section() {
                let hold = Hold { attempt, section };
                locks.entry(&attempt.lock).or_default().push(hold);
            }
        }
        for holds in locks.values_mut() {
            holds.sort_by_key(|hold| hold.section.enter);
        }
        locks
    }
}

/// What an event does to the attempt to which it belongs.
fn happen(attempt: &mut Attempt, event: &Event) -> anyhow::Result<Option<Violation>> {
    let mut violation = None;
    match (&mut attempt.outcome, event) {
        (outcome @ Outcome::CutOff(_), Event::Enter { at }) => {
            let end = End::CutOff { at: Time::MAX };
            *outcome = Outcome::Entered(Section { enter: *at, end });
        }
        (outcome @ Outcome::CutOff(_), Event::GaveUp { why, at }) => {
            *outcome = Outcome::GaveUp(*why, *at);
        }
        (outcome @ Outcome::CutOff(_), Event::Failed { error, at }) => {
            *outcome = Outcome::Failed(error.clone(), *at);
        }
        (Outcome::Entered(section), Event::Leave { counted, at }) => {
            if let End::Lost { .. } = section.end {
                violation = Some(Breach::AfterLost);
            } else {
                let counted = *counted;
                section.end = End::Left { at: *at, counted };
            }
        }
        (Outcome::Entered(section), Event::Lost { at }) => section.end = End::Lost { at: *at },
        (Outcome::Entered(_), Event::Failed { .. }) => violation = Some(Breach::Failed),
        _ => bail!("{event:?} does not follow {attempt:?}"),
    }
    Ok(violation.map(|kind| Violation {
        kind,
        text: format!("{event:?} of {attempt:?}"),
    }))
}

/// What is wrong with an attempt by itself.
fn answered_wrongly(attempt: &Attempt) -> Option<Violation> {
    let kind = match &attempt.outcome {
        Outcome::Failed(..) => Breach::Failed,
        Outcome::GaveUp(Why::WouldBlock, _) if attempt.limit != Some(0) => Breach::Timeout,
        Outcome::GaveUp(Why::Timeout, at) => {
            let limit = attempt.limit.filter(|limit| *limit > 0);
            let waited = at.saturating_sub(attempt.asked);
            if limit.is_some_and(|limit| waited >= limit) {
                return None;
            }
            Breach::Timeout
        }
        _ => return None,
    };
    Some(Violation {
        kind,
        text: format!("{attempt:?}"),
    })
}

/// A section and whose it is.
#[derive(Clone, Copy, Debug)]
struct Hold<'a> {
    attempt: &'a Attempt,
    section: &'a Section,
}

impl Hold<'_> {
    fn is_exclusive(&self) -> bool {
        self.attempt.mode == Mode::Exclusive
    }

    /// The first break that may have ended it, once it was granted: which is before it was entered,
    /// and nobody knows for how long.
    fn broken_by<'b>(&self, breaks: &[&'b Break]) -> Option<&'b Break> {
        let End::Lost { at } = self.section.end else {
            return None;
        };
        let may = |b: &&&Break| b.between[1] >= self.attempt.asked && b.between[0] <= at;
        let breaks = breaks.iter().filter(may).copied();
        breaks.min_by_key(|b| b.between[0])
    }

    fn lost_for_nothing(&self, breaks: &[&Break]) -> Option<Violation> {
        let lost = matches!(self.section.end, End::Lost { .. });
        (lost && self.broken_by(breaks).is_none()).then(|| Violation {
            kind: Breach::Lost,
            text: format!("nobody broke it: {:?}", self.attempt),
        })
    }

    /// Until when it held the lock for certain; none where it may have been broken before it was entered.
    fn held_until(&self, breaks: &[&Break]) -> Option<Time> {
        let until = match self.section.end {
            End::Left { at, .. } | End::CutOff { at } => at,
            End::Lost { at } => self.broken_by(breaks).map_or(at, |b| b.between[0]),
        };
        let cut_off = matches!(self.section.end, End::CutOff { .. });
        (cut_off || until >= self.section.enter).then_some(until)
    }
}

/// Sections that began while another was not over which excludes them. For each, the one that went
/// on for longest of those that began before.
fn overlaps(holds: &[Hold<'_>], breaks: &[&Break]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut longest: [Option<(Time, &Hold<'_>)>; 2] = [None, None];
    for hold in holds {
        let Some(end) = hold.held_until(breaks) else {
            continue;
        };
        let others = if hold.is_exclusive() {
            &longest[..]
        } else {
            &longest[..1]
        };
        let other = others.iter().flatten().max_by_key(|(end, _)| *end);
        if let Some((until, other)) = other
            && *until > hold.section.enter
        {
            let (one, two) = (other.attempt, hold.attempt);
            violations.push(Violation {
                kind: Breach::Overlap,
                text: format!("until {until}: {one:?}; and {two:?}"),
            });
        }
        let longest = &mut longest[usize::from(!hold.is_exclusive())];
        if longest.is_none_or(|(until, _)| end > until) {
            *longest = Some((end, hold));
        }
    }
    violations
}

/// A walk along the sections of a lock, with what its object must be like.
struct ObjectCheck<'a> {
    lock: &'a str,
    remains: &'a Remains,
    /// Where the lines of a section are.
    places: HashMap<(&'a str, u64), Vec<usize>>,
    /// Which lines belong to a section that was met.
    met: Vec<bool>,
    /// The line of the last section that had one.
    last: Option<usize>,
    /// What the counter can be.
    count: RangeInclusive<u64>,
    violations: Vec<Violation>,
}

impl<'a> ObjectCheck<'a> {
    fn new(lock: &'a str, remains: &'a Remains) -> Self {
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, line) in remains.lines.iter().enumerate() {
            if let Some(owner) = owner(line) {
                places.entry(owner).or_default().push(place);
            }
        }
        Self {
            lock,
            remains,
            places,
            met: vec![false; remains.lines.len()],
            last: None,
            count: 0..=0,
            violations: Vec::new(),
        }
    }

    fn through(mut self, holds: &[Hold<'_>]) -> Vec<Violation> {
        for hold in holds {
            match &hold.section.end {
                End::Left {
                    at,
                    counted: Some(counted),
                } => self.left(hold, *counted, *at),
                End::CutOff { .. } if hold.is_exclusive() => self.cut_off(hold),
                // It did nothing to the object.
                End::Left { counted: None, .. } | End::CutOff { .. } | End::Lost { .. } => {}
            }
        }
        for (place, line) in self.remains.lines.iter().enumerate() {
            if !self.met[place] {
                self.blame(Breach::Stray, format!("line {place} of nobody: {line:?}"));
            }
        }
        let total = self.remains.count;
        if !total.is_some_and(|total| self.count.contains(&total)) {
            self.blame(
                Breach::Total,
                format!("{total:?} in the end, not {:?}", self.count),
            );
        }
        self.violations
    }

    /// A section to its end.
    fn left(&mut self, hold: &Hold<'_>, [before, after]: [u64; 2], left: Time) {
        let step = u64::from(hold.is_exclusive());
        if !self.count.contains(&before) || after != before + step {
            let expected = self.count.clone();
            self.blame(
                Breach::Count,
                format!("{expected:?} was due for {:?}", hold.attempt),
            );
        }
        self.count = after..=after;
        if !hold.is_exclusive() {
            return;
        }
        match self.line_of(hold) {
            None => self.blame(Breach::Missing, format!("no line of {:?}", hold.attempt)),
            Some(Line::Torn(text)) => {
                self.blame(Breach::Torn, format!("{text:?} of {:?}", hold.attempt));
            }
            Some(Line::Whole { count, at, .. }) => {
                if *count != after {
                    self.blame(Breach::Count, format!("line {count} of {:?}", hold.attempt));
                }
                if !(hold.section.enter..=left).contains(at) {
                    self.blame(Breach::Outside, format!("at {at} by {:?}", hold.attempt));
                }
            }
        }
    }

    /// An exclusive section that ended anywhere.
    fn cut_off(&mut self, hold: &Hold<'_>) {
        match self.line_of(hold) {
            // The first piece comes before everything else.
            None => {}
            Some(Line::Torn(_)) => self.count = *self.count.start()..=*self.count.end() + 1,
            Some(Line::Whole { count, at, .. }) => {
                let due = *self.count.start() + 1..=*self.count.end() + 1;
                if !due.contains(count) {
                    self.blame(
                        Breach::Count,
                        format!("line {count}, not {due:?}, of {:?}", hold.attempt),
                    );
                }
                if *at < hold.section.enter {
                    self.blame(Breach::Outside, format!("at {at} by {:?}", hold.attempt));
                }
                self.count = *count..=*count;
            }
        }
    }

    /// The line of a section, which comes after those of the sections before.
    fn line_of(&mut self, hold: &Hold<'_>) -> Option<&'a Line> {
        let owner = (hold.attempt.worker.as_str(), hold.attempt.number);
        let place = match self.places.get(&owner) {
            Some(places) => places[0],
            // A kill can come between two bytes, too.
            None if matches!(hold.section.end, End::CutOff { .. }) => self.stump_of(owner)?,
            None => return None,
        };
        self.met[place] = true;
        if self.last.is_some_and(|last| place < last) {
            self.blame(
                Breach::OutOfOrder,
                format!("line {place}, before {:?}: {:?}", self.last, hold.attempt),
            );
        }
        self.last = self.last.max(Some(place));
        Some(&self.remains.lines[place])
    }

    /// The next line, if it is the beginning of one of this owner's.
    fn stump_of(&self, (worker, number): (&str, u64)) -> Option<usize> {
        let place = self.last.map_or(0, |last| last + 1);
        match self.remains.lines.get(place)? {
            Line::Torn(text) if format!("<{worker} {number} ").starts_with(text) => Some(place),
            _ => None,
        }
    }

    fn blame(&mut self, kind: Breach, text: String) {
        let text = format!("{}: {text}", self.lock);
        self.violations.push(Violation { kind, text });
    }
}

/// Whose a line is, as far as it says.
fn owner(line: &Line) -> Option<(&str, u64)> {
    match line {
        Line::Whole { worker, number, .. } => Some((worker, *number)),
        Line::Torn(text) => {
            let (worker, rest) = text.strip_prefix('<')?.split_once(' ')?;
            let (number, _) = rest.split_once(' ')?;
            Some((worker, number.parse().ok()?))
        }
    }
}

/// A time for which a lock was free while somebody waited for it.
#[derive(Clone, Debug)]
pub struct IdlePeriod {
    /// Name of the lock.
    pub lock: String,
    /// Who held it before, if that one was killed.
    pub after_kill_of: Option<String>,
    /// How long somebody has been waiting while it was free.
    pub idle: Duration,
    /// What came of the wait.
    pub next: Attempt,
}

/// The turns of one lock. Several hold it in shared mode at once; it is free when none does.
fn idle_periods(attempts: Vec<&Attempt>) -> Vec<IdlePeriod> {
    enum Moment<'a> {
        Left(Option<&'a str>),
        Asked,
        Answered(&'a Attempt),
    }
    let mut moments = Vec::new();
    for attempt in attempts {
        if let Outcome::CutOff(_) = attempt.outcome {
            continue;
        }
        moments.push((attempt.asked, Moment::Asked));
        moments.push((attempt.answered(), Moment::Answered(attempt)));
        match attempt.section().map(|section| &section.end) {
            // The signal is sent before it arrives.
            Some(End::CutOff { at }) => moments.push((
                (*at).max(attempt.answered()),
                Moment::Left(Some(attempt.worker.as_str())),
            )),
            Some(End::Left { at, .. } | End::Lost { at }) => {
                moments.push((*at, Moment::Left(None)));
            }
            None => {}
        }
    }
    moments.sort_by_key(|(time, _)| *time);
    let (mut holders, mut free, mut killed) = (0_u32, 0, None);
    // How many have been waiting since when.
    let mut waiting: BTreeMap<Time, u32> = BTreeMap::new();
    let mut turns = Vec::new();
    for (time, moment) in moments {
        match moment {
            Moment::Asked => *waiting.entry(time).or_default() += 1,
            Moment::Left(worker) => {
                holders = holders.saturating_sub(1);
                (free, killed) = (time, worker);
            }
            Moment::Answered(attempt) => {
                if holders == 0
                    && let Some((asked, _)) = waiting.first_key_value()
                {
                    turns.push(IdlePeriod {
                        lock: attempt.lock.clone(),
                        after_kill_of: killed.map(str::to_owned),
                        idle: Duration::from_nanos(time - free.max(*asked)),
                        next: attempt.clone(),
                    });
                }
                if attempt.section().is_some() {
                    (holders, killed) = (holders + 1, None);
                }
                if let Some(count) = waiting.get_mut(&attempt.asked) {
                    *count -= 1;
                    if *count == 0 {
                        waiting.remove(&attempt.asked);
                    }
                }
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock that works, and those who use it, at times that follow from a seed.
    struct World {
        chance: fastrand::Rng,
        time: Time,
        number: u64,
        history: History,
        remains: Remains,
    }

    impl World {
        fn new(seed: u64) -> Self {
            Self {
                chance: fastrand::Rng::with_seed(seed),
                time: 1,
                number: 0,
                history: History::default(),
                remains: Remains {
                    count: Some(0),
                    lines: Vec::new(),
                },
            }
        }

        /// One in which so many turns were taken.
        fn after(seed: u64, turns: usize) -> Self {
            let mut world = Self::new(seed);
            for _ in 0..turns {
                match world.chance.u8(0..10) {
                    0..5 => world.add(),
                    5..7 => world.look(),
                    7 => world.cut_off(),
                    _ => world.give_up(),
                }
            }
            world
        }

        fn later(&mut self) -> Time {
            self.time += self.chance.u64(1..1000);
            self.time
        }

        fn count(&self) -> u64 {
            self.remains.count.expect("a number")
        }

        fn attempt(&mut self, mode: Mode, outcome: Outcome) -> &mut Attempt {
            self.number += 1;
            let asked = self.time - self.chance.u64(0..self.time);
            self.history.attempts.push(Attempt {
                worker: format!("p{}.1", self.number % 5),
                number: self.number,
                lock: "a".into(),
                mode,
                asked,
                limit: None,
                outcome,
            });
            self.history.attempts.last_mut().expect("the attempt")
        }

        fn hold(&mut self, mode: Mode, enter: Time, counted: [u64; 2]) {
            let at = self.later();
            let counted = Some(counted);
            let end = End::Left { at, counted };
            self.attempt(mode, Outcome::Entered(Section { enter, end }));
        }

        fn line(&mut self, at: Time) {
            let number = self.number + 1;
            self.remains.lines.push(Line::Whole {
                worker: format!("p{}.1", number % 5),
                number,
                count: self.count(),
                at,
            });
        }

        fn add(&mut self) {
            let (enter, before) = (self.later(), self.count());
            self.remains.count = Some(before + 1);
            let at = self.later();
            self.line(at);
            self.hold(Mode::Exclusive, enter, [before, before + 1]);
        }

        /// Two at once.
        fn look(&mut self) {
            let (one, two, count) = (self.later(), self.later(), self.count());
            self.hold(Mode::Shared, one, [count, count]);
            self.hold(Mode::Shared, two, [count, count]);
        }

        fn cut_off(&mut self) {
            let enter = self.later();
            let how_far = self.chance.u8(0..4);
            let number = self.number + 1;
            if how_far > 1 {
                self.remains.count = Some(self.count() + 1);
            }
            let text = format!("<p{}.1 {number} ", number % 5);
            let length = self.chance.usize(1..=text.len());
            match how_far {
                0 => {}
                // A line that was begun, and an addition that was made only if it is all there.
                1 => self.remains.lines.push(Line::Torn(text[..length].into())),
                2 => self.remains.lines.push(Line::Torn(text)),
                _ => self.line(enter + 1),
            }
            let end = End::CutOff { at: self.later() };
            self.attempt(Mode::Exclusive, Outcome::Entered(Section { enter, end }));
        }

        fn give_up(&mut self) {
            let at = self.later();
            let attempt = self.attempt(Mode::Exclusive, Outcome::GaveUp(Why::Timeout, at));
            attempt.limit = Some((at - attempt.asked).max(1));
            attempt.asked = at - attempt.limit.expect("a timeout");
        }

        fn kinds(&self) -> Vec<Breach> {
            let remains = HashMap::from([("a".into(), self.remains.clone())]);
            let violations = self.history.check(&remains);
            violations
                .into_iter()
                .map(|violation| violation.kind)
                .collect()
        }

        #[track_caller]
        fn must_show(&self, kind: Breach) {
            let kinds = self.kinds();
            assert!(kinds.contains(&kind), "{kinds:?}");
        }

        /// The last exclusive section that came to its end; `later` more came after it.
        fn last_of(&mut self, mode: Mode) -> &mut Attempt {
            let left = |attempt: &&mut Attempt| {
                attempt.mode == mode
                    && matches!(attempt.section(), Some(s) if matches!(s.end, End::Left { .. }))
            };
            self.history
                .attempts
                .iter_mut()
                .rev()
                .find(left)
                .expect("a section")
        }
    }

    fn section(attempt: &mut Attempt) -> &mut Section {
        match &mut attempt.outcome {
            Outcome::Entered(section) => section,
            outcome => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn what_a_good_lock_does_is_no_violation() {
        for seed in 0..200 {
            let world = World::after(seed, 200);
            assert_eq!(world.kinds(), [], "seed {seed}");
        }
    }

    #[test]
    fn sections_that_overlap_are_found_whatever_comes_between() {
        for (one, two) in [
            (Mode::Exclusive, Mode::Exclusive),
            (Mode::Exclusive, Mode::Shared),
            (Mode::Shared, Mode::Exclusive),
        ] {
            let mut world = World::after(1, 100);
            let enter = world.later();
            let count = world.count();
            world.hold(Mode::Shared, enter, [count, count]);
            world.last_of(Mode::Shared).mode = one;
            let over = world.time + 1_000_000;
            section(world.last_of(one)).end = End::Left {
                at: over,
                counted: None,
            };
            let later = world.later();
            world.hold(two, later, [count, count]);
            world.must_show(Breach::Overlap);
        }
    }

    #[test]
    fn a_killed_holder_excludes_others_until_it_was_killed() {
        let mut world = World::new(1);
        world.cut_off();
        let killed = world.time;
        world.add();
        assert_eq!(world.kinds(), []);
        let section = section(world.last_of(Mode::Exclusive));
        section.enter = killed - 1;
        world.must_show(Breach::Overlap);
    }

    #[test]
    fn a_line_that_is_torn_missing_twice_or_elsewhere_is_found() {
        let clean = || {
            let mut world = World::after(2, 100);
            world.add();
            world.add();
            world
        };
        let mut world = clean();
        let last = world.remains.lines.len() - 1;
        world.remains.lines[last] =
            Line::Torn(format!("<p{}.1 {} ", world.number % 5, world.number));
        world.must_show(Breach::Torn);

        let mut world = clean();
        world.remains.lines.pop();
        world.must_show(Breach::Missing);

        let mut world = clean();
        let again = world.remains.lines[last].clone();
        world.remains.lines.push(again);
        world.must_show(Breach::Stray);

        let mut world = clean();
        world.remains.lines.swap(last, last - 1);
        world.must_show(Breach::OutOfOrder);
    }

    #[test]
    fn a_line_of_another_time_is_found() {
        let mut world = World::after(3, 100);
        world.add();
        let left = world.time;
        let Some(Line::Whole { at, .. }) = world.remains.lines.last_mut() else {
            panic!("a line");
        };
        *at = left + 1;
        world.must_show(Breach::Outside);
    }

    #[test]
    fn a_lost_count_is_found_along_the_way_and_in_the_end() {
        let mut world = World::after(4, 100);
        world.add();
        let count = world.count();
        world.remains.count = Some(count - 1);
        world.must_show(Breach::Total);
        world.add();
        world.must_show(Breach::Count);

        let mut world = World::after(4, 100);
        let (enter, count) = (world.later(), world.count());
        world.hold(Mode::Shared, enter, [count, count + 1]);
        world.must_show(Breach::Count);
    }

    fn ask() -> Event {
        Event::Ask {
            number: 1,
            lock: "a".into(),
            mode: Mode::Exclusive,
            limit: None,
            at: 1,
        }
    }

    #[test]
    fn a_lock_is_lost_by_a_break_alone_and_then_for_good() {
        let ask = ask();
        let lost = Event::Lost { at: 9 };
        let leave = Event::Leave {
            counted: None,
            at: 10,
        };
        let entered = [ask, Event::Enter { at: 2 }];
        let history = |ends: &[Event], from| {
            let mut history = History::default();
            history
                .add("p.1", &[&entered, ends].concat(), None)
                .expect("a journal");
            let lock = "a".into();
            history
                .add(
                    "q.1",
                    &[Event::Broke {
                        lock,
                        from,
                        at: from + 1,
                    }],
                    None,
                )
                .expect("a journal");
            let hold = |at| Section {
                enter: at,
                end: End::CutOff { at },
            };
            history.attempts.push(Attempt {
                worker: "r.1".into(),
                outcome: Outcome::Entered(hold(6)),
                ..history.attempts[0].clone()
            });
            let kinds = history.check(&HashMap::new()).into_iter();
            kinds.map(|violation| violation.kind).collect::<Vec<_>>()
        };
        assert_eq!(history(std::slice::from_ref(&lost), 5), []);
        assert_eq!(
            history(std::slice::from_ref(&lost), 1),
            [],
            "before it was entered"
        );
        assert_eq!(history(std::slice::from_ref(&lost), 7), [Breach::Overlap]);
        assert_eq!(
            history(std::slice::from_ref(&lost), 20),
            [Breach::Lost, Breach::Overlap]
        );
        assert_eq!(history(&[lost, leave], 5), [Breach::AfterLost]);
    }

    #[test]
    fn a_wrong_answer_is_found() {
        for (limit, why) in [
            (Some(100), Why::Timeout),
            (None, Why::Timeout),
            (Some(0), Why::Timeout),
            (Some(100), Why::WouldBlock),
        ] {
            let mut world = World::after(5, 10);
            let asked = world.time;
            let attempt = world.attempt(Mode::Shared, Outcome::GaveUp(why, asked + 99));
            (attempt.asked, attempt.limit) = (asked, limit);
            world.must_show(Breach::Timeout);
        }
        let mut world = World::after(5, 10);
        let failed = Outcome::Failed("broken".into(), world.time);
        world.attempt(Mode::Shared, failed);
        world.must_show(Breach::Failed);
    }

    #[test]
    fn who_stops_unkilled_is_found() {
        let ask = ask();
        let kinds = |killed| {
            let mut history = History::default();
            history
                .add("p.1", std::slice::from_ref(&ask), killed)
                .expect("a journal");
            let kinds = history.check(&HashMap::new()).into_iter();
            kinds.map(|violation| violation.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(None), [Breach::Unfinished]);
        assert_eq!(kinds(Some(5)), []);
    }

    #[test]
    fn a_turn_is_as_long_as_the_lock_was_free_while_somebody_waited() {
        let mut world = World::new(6);
        let mut hold = |worker: &str, asked, enter, end| {
            let attempt = world.attempt(Mode::Exclusive, Outcome::Entered(Section { enter, end }));
            (attempt.worker, attempt.asked) = (worker.into(), asked);
        };
        let left = |at| End::Left { at, counted: None };
        hold("p", 10, 11, left(20));
        hold("q", 15, 24, End::CutOff { at: 30 });
        hold("r", 12, 37, left(40));
        hold("s", 50, 51, left(60));
        let turns = world.history.idle_periods();
        let idle: Vec<_> = turns.iter().map(|turn| turn.idle.as_nanos()).collect();
        assert_eq!(idle, [1, 4, 7, 1]);
        let killed: Vec<_> = turns
            .iter()
            .map(|turn| turn.after_kill_of.as_deref())
            .collect();
        assert_eq!(killed, [None, None, Some("q"), None]);
    }
}
