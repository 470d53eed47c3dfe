//! What is known of processes that do not end.

use std::fs;

use super::{WorkerGroup, process_of};
use crate::stress::journal::now;

impl WorkerGroup {
    /// Records what is known of the processes that do not end, and kills them.
    pub(super) fn report_stuck(&mut self) {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        for member in std::mem::take(&mut self.members) {
            let name = &member.name;
            let waits = waits(member.child.id());
            let last = self.last_words(name);
            self.failures.push(format!(
                "{name} is stuck\nits journals end with\n{last}its threads\n{waits}/proc/locks\n{locks}"
            ));
            self.kills.insert(name.clone(), now());
        }
    }

    fn last_words(&self, name: &str) -> String {
        let journals = fs::read_dir(self.layout.journals()).into_iter().flatten();
        let mine = journals.flatten().filter(|file| {
            let worker = file.file_name();
            worker
                .to_str()
                .is_some_and(|worker| process_of(worker) == name)
        });
        let last = mine.filter_map(|file| {
            let text = fs::read_to_string(file.path()).ok()?;
            let line = text.lines().next_back()?.to_owned();
            Some(format!("  {}: {line}\n", file.path().display()))
        });
        last.collect()
    }
}

/// The system call in which each thread of a process waits.
fn waits(pid: u32) -> String {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let line = |thread: fs::DirEntry| {
        let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let (name, call, place) = (read("comm"), read("syscall"), read("wchan"));
        format!("  {}: {} {place}\n", name.trim(), call.trim())
    };
    threads.flatten().map(line).collect()
}
