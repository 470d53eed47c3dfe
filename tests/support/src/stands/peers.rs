//! Subjects that are processes.

use std::process::Command;
use std::time::Duration;

use locket::Protocol;

use crate::process::{Process, peer};
use crate::subject::{AnySubject, End, Site, Stand, Subject};

/// Processes of our own: the program `peer`.
#[derive(Debug)]
pub struct Peers(Site);

impl Stand for Peers {
    fn new(protocol: Protocol) -> Self {
        Self(Site::new(protocol))
    }

    fn site(&self) -> &Site {
        &self.0
    }

    fn start(&self) -> AnySubject {
        let mut command = Command::new(peer());
        command.args(["--protocol", self.0.protocol.name()]);
        command.arg("--database").arg(self.0.database());
        Box::new(Process::spawn(&mut command))
    }

    fn waiting(&self) -> Option<usize> {
        super::kernel_waiters(&self.0)
    }

    fn ends(&self) -> Vec<End> {
        let exits = [End::Command("exit 0"), End::Command("panic")];
        [End::Finish, End::Kill].into_iter().chain(exits).collect()
    }
}

impl Subject for Process {
    fn send(&mut self, line: &str) {
        Self::send(self, line);
    }

    fn answer_within(&mut self, limit: Duration) -> Option<String> {
        Self::answer_within(self, limit)
    }

    fn pid(&self) -> u32 {
        self.id()
    }

    fn finish(self: Box<Self>) {
        assert!(Self::finish(*self), "the process ends well");
    }

    fn kill(mut self: Box<Self>) {
        Self::kill(&mut self);
    }

    fn ended(self: Box<Self>) {
        // Its command ends it; its input ends anyway.
        Self::finish(*self);
    }
}
