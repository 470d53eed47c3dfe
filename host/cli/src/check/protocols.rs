//! Tries each protocol with the engine, as two users of Locket.

use std::path::Path;

use locket::Protocol;

use super::actor::{Actor, Finding};
use super::facts::{ProtocolFacts, Stop, facts};
use super::step::{Family, Mode, Opening, Step};

pub(super) fn protocol(scratch: &Path, protocol: Protocol) -> anyhow::Result<ProtocolFacts> {
    facts(|facts: &mut ProtocolFacts| {
        let [mut a, mut b] = Actor::pair(scratch).map_err(Stop::Tool)?;
        facts
            .acquired
            .keep(acquires(&mut a, protocol, Mode::Exclusive))?;
        if !facts.acquired.is_yes() {
            return Ok(());
        }
        // Before the others, since they give the lock back.
        if protocol == Protocol::Native {
            let excludes_flock = excludes(&mut b, protocol, Family::Flock);
            facts.excludes_flock.keep(excludes_flock)?;
            let excludes_record = excludes(&mut b, protocol, Family::RECORD);
            facts.excludes_record.keep(excludes_record)?;
        }
        facts.exclusive.keep(exclusive(&mut a, &mut b, protocol))?;
        if !facts.exclusive.is_yes() {
            return Ok(());
        }
        if !protocol.is_existence_lock() {
            facts.shared.keep(shared(&mut a, &mut b, protocol))?;
        }
        facts.granted.keep(granted(&mut a, &mut b, protocol))?;
        let killed = granted_after_kill(a, b, protocol);
        facts.granted_after_kill.keep(killed)
    })
}

fn acquires(actor: &mut Actor, protocol: Protocol, mode: Mode) -> Finding {
    actor.does(Step::Acquire {
        protocol: protocol.name().into(),
        mode,
        wait: false,
    })
}

/// Whether the lock that the other has excludes one of this family on the same file.
fn excludes(b: &mut Actor, protocol: Protocol, family: Family) -> Finding {
    b.open(0, protocol.name(), Opening::Write)?;
    let locked = b.try_lock(0, family, Mode::Exclusive)?;
    b.unlock(0, family)?;
    Ok(!locked)
}

/// The one has the lock already.
fn exclusive(a: &mut Actor, b: &mut Actor, protocol: Protocol) -> Finding {
    if acquires(b, protocol, Mode::Exclusive)? {
        return Ok(false);
    }
    a.does(Step::Release)?;
    Ok(acquires(b, protocol, Mode::Exclusive)? && b.does(Step::Release)?)
}

fn shared(a: &mut Actor, b: &mut Actor, protocol: Protocol) -> Finding {
    let both = acquires(a, protocol, Mode::Shared)? && acquires(b, protocol, Mode::Shared)?;
    if !both {
        return Ok(false);
    }
    b.does(Step::Release)?;
    let excludes = !acquires(b, protocol, Mode::Exclusive)?;
    a.does(Step::Release)?;
    Ok(excludes)
}

/// The one acquires the lock, and the other begins to wait for it. Returns whether it waits.
fn wait_for(a: &mut Actor, b: &mut Actor, protocol: Protocol) -> Finding {
    if !acquires(a, protocol, Mode::Exclusive)? {
        return Ok(false);
    }
    b.begin(&Step::Acquire {
        protocol: protocol.name().into(),
        mode: Mode::Exclusive,
        wait: true,
    })?;
    b.waits()
}

fn granted(a: &mut Actor, b: &mut Actor, protocol: Protocol) -> Finding {
    Ok(wait_for(a, b, protocol)?
        && a.does(Step::Release)?
        && b.is_done()?
        && b.does(Step::Release)?)
}

fn granted_after_kill(mut a: Actor, mut b: Actor, protocol: Protocol) -> Finding {
    let waits = wait_for(&mut a, &mut b, protocol)?;
    a.kill();
    Ok(waits && b.is_done()?)
}
