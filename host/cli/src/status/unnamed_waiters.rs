//! Who waits for open-file-description locks, of which the lock table names no process.
//!
//! `/proc/PID/task/TID/syscall` tells in which system call a thread waits and for which descriptor,
//! to those who may trace the process.

use std::fs;

use nix::libc;
use procfs::process::{Process, all_processes};

use super::proc_locks::{FileNumber, device_of_mount};

/// The processes that wait for such a lock of a file, once for each thread that does.
pub(super) fn of(file: FileNumber) -> Vec<i32> {
    let processes = all_processes().into_iter().flatten().flatten();
    processes
        .flat_map(|process| waits(&process, file))
        .collect()
}

fn waits(process: &Process, file: FileNumber) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid));
    let calls = tasks.into_iter().flatten().flatten().filter_map(|task| {
        let call = fs::read_to_string(task.path().join("syscall")).ok()?;
        awaited_descriptor(&call)
    });
    calls
        .filter(|descriptor| file_of(process, *descriptor) == Some(file))
        .map(|_| process.pid)
        .collect()
}

/// The descriptor whose lock a thread waits for, from the number and the arguments of its call.
fn awaited_descriptor(call: &str) -> Option<u64> {
    let mut words = call.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (descriptor, command) = (argument()?, argument()?);
    let waits = number == libc::SYS_fcntl && command == libc::F_OFD_SETLKW as u64;
    waits.then_some(descriptor)
}

/// The file that a descriptor of a process leads to, without a look at its file system.
fn file_of(process: &Process, descriptor: u64) -> Option<FileNumber> {
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/{descriptor}", process.pid)).ok()?;
    let field = |name: &str| -> Option<u64> {
        let mut lines = info.lines();
        lines
            .find_map(|line| line.strip_prefix(name))?
            .trim()
            .parse()
            .ok()
    };
    Some(FileNumber {
        device: device_of_mount(process, field("mnt_id:")?)?,
        inode: field("ino:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_tells_the_descriptor_only_if_it_waits_for_such_a_lock() {
        let call = |number, command| format!("{number} 0x5 {command:#x} 0x7ffe88 0x8 0x0 0x0");
        let (fcntl, wait) = (libc::SYS_fcntl, libc::F_OFD_SETLKW);
        assert_eq!(awaited_descriptor(&call(fcntl, wait)), Some(5));
        assert_eq!(awaited_descriptor(&call(fcntl + 1, wait)), None);
        assert_eq!(awaited_descriptor(&call(fcntl, libc::F_OFD_SETLK)), None);
        assert_eq!(awaited_descriptor("running\n"), None);
        assert_eq!(awaited_descriptor("-1 0x7ffe88 0x7f671b\n"), None);
    }
}
