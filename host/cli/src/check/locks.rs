//! Tries kernel locks, without the engine.

use std::path::Path;

use super::actor::{Actor, Finding};
use super::facts::{LockFacts, Stop, facts};
use super::step::{Entry, Family, Mode, Opening, Step};

/// `flock`.
pub(super) fn flock(scratch: &Path) -> anyhow::Result<LockFacts> {
    facts(|facts| {
        fill_common(facts, scratch, Family::Flock, Family::RECORD, "flock")?;
        let mut pair = Actor::pair(scratch).map_err(Stop::Tool)?;
        let read_only = on_read_only(&mut pair, "flock-read-only", |actor, name| {
            actor.open(0, name, Opening::Write).map(|()| true)
        });
        facts.read_only.keep(read_only)?;
        let directory = on_read_only(&mut pair, "flock-directory", |actor, name| {
            actor.makes(name, Entry::Directory)
        });
        facts.directory.keep(directory)?;
        let removed = removed(&mut pair, "flock-removed");
        facts.removed.keep(removed)?;
        if cfg!(windows) {
            return Ok(()); // There is no signal.
        }
        let interrupted = is_interrupted(&mut pair, "flock-interrupted", Family::Flock);
        facts.interrupted.keep(interrupted)
    })
}

/// Record locks of open file descriptions.
pub(super) fn record(scratch: &Path) -> anyhow::Result<LockFacts> {
    facts(|facts| {
        fill_common(facts, scratch, Family::RECORD, Family::Flock, "record")?;
        if cfg!(windows) {
            return Ok(()); // Both families are the one of the standard library, without ranges.
        }
        let mut pair = Actor::pair(scratch).map_err(Stop::Tool)?;
        facts.ranges.keep(ranges(&mut pair, "record-ranges"))?;
        let interrupted = is_interrupted(&mut pair, "record-interrupted", Family::RECORD);
        facts.interrupted.keep(interrupted)
    })
}

/// What both families have.
fn fill_common(
    facts: &mut LockFacts,
    scratch: &Path,
    family: Family,
    other: Family,
    name: &str,
) -> Result<(), Stop> {
    let mut pair = Actor::pair(scratch).map_err(Stop::Tool)?;
    let name = |what: &str| format!("{name}-{what}");
    let exclusive = exclusive(&mut pair, &name("exclusive"), family);
    facts.exclusive.keep(exclusive)?;
    facts
        .shared
        .keep(shared(&mut pair, &name("shared"), family))?;
    let descriptions = descriptions(&mut pair, &name("descriptions"), family);
    facts.descriptions.keep(descriptions)?;
    let excludes = excludes(&mut pair, &name("other"), family, other);
    facts.excludes_other_family.keep(excludes)?;
    facts
        .granted
        .keep(granted(&mut pair, &name("granted"), family))?;
    let killed = granted_after_kill(pair, &name("killed"), family);
    facts.granted_after_kill.keep(killed)
}

/// Both open a file.
fn open([a, b]: &mut [Actor; 2], name: &str) -> Finding {
    a.open(0, name, Opening::Write)?;
    b.open(0, name, Opening::Write)?;
    Ok(true)
}

fn exclusive(pair: &mut [Actor; 2], name: &str, family: Family) -> Finding {
    open(pair, name)?;
    let [a, b] = pair;
    let excludes = a.try_lock(0, family, Mode::Exclusive)?
        && !b.try_lock(0, family, Mode::Exclusive)?
        && !b.try_lock(0, family, Mode::Shared)?;
    a.unlock(0, family)?;
    Ok(excludes && b.try_lock(0, family, Mode::Exclusive)?)
}

fn shared(pair: &mut [Actor; 2], name: &str, family: Family) -> Finding {
    open(pair, name)?;
    let [a, b] = pair;
    let allows = a.try_lock(0, family, Mode::Shared)? && b.try_lock(0, family, Mode::Shared)?;
    b.unlock(0, family)?;
    Ok(allows && !b.try_lock(0, family, Mode::Exclusive)?)
}

fn descriptions([a, _]: &mut [Actor; 2], name: &str, family: Family) -> Finding {
    a.open(0, name, Opening::Write)?;
    a.open(1, name, Opening::Write)?;
    Ok(a.try_lock(0, family, Mode::Exclusive)? && !a.try_lock(1, family, Mode::Exclusive)?)
}

fn excludes(pair: &mut [Actor; 2], name: &str, family: Family, other: Family) -> Finding {
    open(pair, name)?;
    let [a, b] = pair;
    Ok(a.try_lock(0, family, Mode::Exclusive)? && !b.try_lock(0, other, Mode::Exclusive)?)
}

/// `flock` takes no permission to write.
fn on_read_only(
    [a, b]: &mut [Actor; 2],
    name: &str,
    make: impl FnOnce(&mut Actor, &str) -> Finding,
) -> Finding {
    make(a, name)?;
    a.open(0, name, Opening::Read)?;
    b.open(0, name, Opening::Read)?;
    Ok(a.try_lock(0, Family::Flock, Mode::Exclusive)?
        && !b.try_lock(0, Family::Flock, Mode::Exclusive)?)
}

fn removed([a, b]: &mut [Actor; 2], name: &str) -> Finding {
    a.open(0, name, Opening::Write)?;
    Ok(a.try_lock(0, Family::Flock, Mode::Exclusive)?
        && b.does(Step::Remove(name.into()))?
        && a.does(Step::Write(0, "kept".into()))?
        && a.says(Step::Read(0), "kept")?)
}

fn ranges(pair: &mut [Actor; 2], name: &str) -> Finding {
    open(pair, name)?;
    let [a, b] = pair;
    let range = |from, length| Family::Record { from, length };
    Ok(a.try_lock(0, range(0, 10), Mode::Exclusive)?
        && b.try_lock(0, range(10, 10), Mode::Exclusive)?
        && !b.try_lock(0, range(5, 5), Mode::Exclusive)?
        && !a.try_lock(0, range(0, 0), Mode::Exclusive)?)
}

fn granted(pair: &mut [Actor; 2], name: &str, family: Family) -> Finding {
    open(pair, name)?;
    let [a, b] = pair;
    if !a.try_lock(0, family, Mode::Exclusive)? {
        return Ok(false);
    }
    b.wait_for(0, family)?;
    if !b.waits()? {
        return Ok(false);
    }
    a.unlock(0, family)?;
    b.is_done()
}

fn granted_after_kill(mut pair: [Actor; 2], name: &str, family: Family) -> Finding {
    open(&mut pair, name)?;
    let [mut a, mut b] = pair;
    if !a.try_lock(0, family, Mode::Exclusive)? {
        return Ok(false);
    }
    b.wait_for(0, family)?;
    let waits = b.waits()?;
    a.kill();
    Ok(waits && b.is_done()?)
}

fn is_interrupted(pair: &mut [Actor; 2], name: &str, family: Family) -> Finding {
    open(pair, name)?;
    let [a, b] = pair;
    Ok(a.try_lock(0, family, Mode::Exclusive)? && b.is_interrupted(0, family)?)
}
