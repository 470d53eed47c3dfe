//! One of the two processes that try something out, as the one that directs them sees it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::step::{Answer, Answered, Change, Entry, Family, Lock, Mode, Opening, Slot, Step, Wait};
use crate::exit::{self, ExitError};
use crate::helper::Helper;

/// How long a step may take before the file system counts as one that hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// How long a process may take to start, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// After this long without an answer, a step waits for another process.
const MOMENT: Duration = Duration::from_millis(100);

/// Why a step has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// None in time.
    NoAnswer,
    /// What the system says.
    Failed(String),
    /// This tool does not work here.
    Tool(anyhow::Error),
}

/// Whether something is so.
pub(super) type Finding = Result<bool, Trouble>;

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Tool(error)
    }
}

#[derive(Debug)]
pub(super) struct Actor(Helper);

impl Actor {
    /// Starts two. They end with the thread that starts them.
    pub(super) fn pair(scratch: &Path) -> anyhow::Result<[Self; 2]> {
        let start = || {
            let prepare = |command: &mut Command| {
                command.args(["check-worker", "--"]).arg(scratch);
            };
            Helper::start(prepare).map(Self)
        };
        let mut pair = [start()?, start()?];
        for actor in &mut pair {
            // It has touched nothing yet.
            let started = actor.0.answer::<Answered>(START)?;
            let _ = started.ok_or_else(|| {
                let message = "another process of this program does not start";
                ExitError::new(exit::SYSTEM, message)
            })?;
        }
        Ok(pair)
    }

    /// Tells it to take a step.
    pub(super) fn begin(&mut self, step: &Step) -> Result<(), Trouble> {
        let line = serde_json::to_string(step).map_err(anyhow::Error::from)?;
        Ok(self.0.ask(format!("{line}\n").as_bytes())?)
    }

    /// Whether the step that it has begun is still not over.
    pub(super) fn waits(&mut self) -> Finding {
        match self.0.answer::<Answered>(MOMENT)? {
            None => Ok(true),
            Some(answered) => answered.map(|_| false).map_err(Trouble::Failed),
        }
    }

    /// The answer to the step that it has begun.
    pub(super) fn answer(&mut self) -> Result<Answer, Trouble> {
        match self.0.answer::<Answered>(PATIENCE)? {
            None => Err(Trouble::NoAnswer),
            Some(answered) => answered.map_err(Trouble::Failed),
        }
    }

    /// Whether that step is done.
    pub(super) fn is_done(&mut self) -> Finding {
        Ok(self.answer()? == Answer::Done)
    }

    fn ask(&mut self, step: &Step) -> Result<Answer, Trouble> {
        self.begin(step)?;
        self.answer()
    }

    /// Whether a step is done, and not refused.
    pub(super) fn does(&mut self, step: Step) -> Finding {
        Ok(self.ask(&step)? == Answer::Done)
    }

    pub(super) fn open(&mut self, slot: Slot, name: &str, how: Opening) -> Result<(), Trouble> {
        self.ask(&Step::Open(slot, name.into(), how)).map(drop)
    }

    pub(super) fn try_lock(&mut self, slot: Slot, family: Family, mode: Mode) -> Finding {
        let wait = Wait::No;
        self.does(Step::Lock(slot, Lock { family, mode, wait }))
    }

    pub(super) fn unlock(&mut self, slot: Slot, family: Family) -> Result<(), Trouble> {
        self.ask(&Step::Unlock(slot, family)).map(drop)
    }

    /// Begins to wait for an exclusive lock.
    pub(super) fn wait_for(&mut self, slot: Slot, family: Family) -> Result<(), Trouble> {
        let (mode, wait) = (Mode::Exclusive, Wait::Yes);
        self.begin(&Step::Lock(slot, Lock { family, mode, wait }))
    }

    /// Whether a wait for an exclusive lock is interrupted.
    pub(super) fn is_interrupted(&mut self, slot: Slot, family: Family) -> Finding {
        let (mode, wait) = (Mode::Exclusive, Wait::Interrupted);
        let step = Step::Lock(slot, Lock { family, mode, wait });
        Ok(self.ask(&step)? == Answer::Interrupted)
    }

    pub(super) fn makes(&mut self, name: &str, entry: Entry) -> Finding {
        self.does(Step::Make(name.into(), entry))
    }

    pub(super) fn named(&mut self, name: &str) -> Result<Answer, Trouble> {
        self.ask(&Step::Named(name.into()))
    }

    pub(super) fn opened(&mut self, slot: Slot) -> Result<Answer, Trouble> {
        self.ask(&Step::Opened(slot))
    }

    pub(super) fn is_told(&mut self, name: &str, change: Change) -> Finding {
        self.does(Step::Told(name.into(), change))
    }

    /// Whether the answer is this text.
    pub(super) fn says(&mut self, step: Step, text: &str) -> Finding {
        Ok(self.ask(&step)? == Answer::Text(text.into()))
    }

    /// Kills it. It may be in a call that no signal ends, so nothing waits for that.
    pub(super) fn kill(&mut self) {
        self.0.kill();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}
