//! Holders and waiters in containers: with process numbers, a host name and mounts of their own, and
//! a volume that they share with others and with the host.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::processes::*;
use super::*;

/// The protocols whose marker can carry the kernel's proof.
const CARRIERS: [Protocol; 4] = [
    Protocol::Link,
    Protocol::Mkdir,
    Protocol::PidFile,
    Protocol::Soft,
];

/// Where a process runs.
#[derive(Clone, Copy, Debug)]
enum Place {
    Host,
    /// On the host, under another host name.
    Renamed,
    /// As the first process of a container of this name, which has the volume at a path of its own.
    Container(&'static str),
}

impl Place {
    /// A process in a role, with `dir` as its volume.
    fn start(self, role: &str, protocol: Protocol, dir: &Dir) -> Killed {
        let mut command = match self {
            Self::Host => Command::new(std::env::current_exe().unwrap()),
            Self::Renamed => {
                let mut command = Command::new("unshare");
                command.arg("--uts");
                enter(&mut command, "echo renamed > /proc/sys/kernel/hostname");
                command
            }
            Self::Container(name) => {
                let mut command = Command::new("unshare");
                command.args(["--pid", "--fork", "--kill-child", "--uts", "--mount-proc"]);
                command.env("NAME", name);
                let volume = "echo $NAME > /proc/sys/kernel/hostname; \
                              mount --bind \"$FOLDER\" \"$MOUNTPOINT\"; FOLDER=$MOUNTPOINT";
                enter(&mut command, volume);
                command
            }
        };
        as_child(&mut command, role, protocol, dir.0.path());
        let mountpoint = dir.path("volume");
        command.env("MOUNTPOINT", &mountpoint).stdin(Stdio::null());
        let _ = fs::create_dir(mountpoint);
        Killed(command.spawn().unwrap())
    }
}

/// Lets a shell prepare the namespaces, and then become this program.
fn enter(command: &mut Command, script: &str) {
    let script = format!("set -e; {script}; exec \"$0\" \"$@\"");
    command.args(["sh", "-c", &script]);
    command.arg(std::env::current_exe().unwrap());
}

fn has_namespaces() -> bool {
    let all = ["--pid", "--fork", "--kill-child", "--uts", "--mount-proc"];
    let mut container = Command::new("unshare");
    let bind = "mount --bind / /mnt && echo x > /proc/sys/kernel/hostname";
    let can = container.args(all).args(["sh", "-c", bind]).status();
    let can = can.is_ok_and(|status| status.success());
    if !can {
        not_tested(format_args!("no namespaces, and so no containers, here"));
    }
    can
}

/// Whether a process at `place` finds the lock free.
fn finds_free(place: Place, protocol: Protocol, dir: &Dir) -> bool {
    let mut process = place.start("try", protocol, dir);
    assert!(process.0.wait().unwrap().success());
    let free = fs::read_to_string(dir.path("free")).unwrap();
    fs::remove_file(dir.path("free")).unwrap();
    free == "true"
}

fn hold(place: Place, protocol: Protocol, dir: &Dir) -> Killed {
    let holder = place.start("hold", protocol, dir);
    eventually("the holder holds the lock", || dir.path("held").exists());
    holder
}

/// A living holder at `first` keeps its lock; when it is killed, the waiter at `next` has it.
fn is_passed_on_by_a_death(first: Place, next: Place) {
    if !has_namespaces() {
        return;
    }
    for protocol in CARRIERS {
        let dir = Dir::new();
        let holder = hold(first, protocol, &dir);
        assert!(!finds_free(next, protocol, &dir), "{protocol}");
        let mut waiter = next.start("wait", protocol, &dir);
        eventually("the waiter starts", || dir.path("waiting").exists());
        assert!(!finds_free(next, protocol, &dir), "{protocol}");
        assert!(!dir.path("granted").exists(), "{protocol}");
        let start = Instant::now();
        drop(holder);
        eventually("the waiter has the lock", || dir.path("granted").exists());
        println!("{first:?} to {next:?}, {protocol}: {:?}", start.elapsed());
        assert!(waiter.0.wait().unwrap().success());
        assert!(finds_free(next, protocol, &dir), "{protocol}");
    }
}

#[test]
fn a_killed_container_leaves_its_lock_to_the_host() {
    is_passed_on_by_a_death(Place::Container("box"), Place::Host);
}

#[test]
fn a_killed_process_leaves_its_lock_to_a_container() {
    is_passed_on_by_a_death(Place::Host, Place::Container("box"));
}

/// It has the same name and the same process number.
#[test]
fn a_killed_container_leaves_its_lock_to_the_one_that_replaces_it() {
    is_passed_on_by_a_death(Place::Container("box"), Place::Container("box"));
}

#[test]
fn a_killed_container_leaves_its_lock_to_another() {
    is_passed_on_by_a_death(Place::Container("one"), Place::Container("other"));
}

#[test]
fn a_killed_process_leaves_its_lock_to_one_under_another_host_name() {
    is_passed_on_by_a_death(Place::Host, Place::Renamed);
    is_passed_on_by_a_death(Place::Renamed, Place::Host);
}

/// No kernel lock can be on a symbolic link, so nothing proves the death.
#[test]
fn a_symbolic_link_of_a_killed_container_stays() {
    if !has_namespaces() {
        return;
    }
    let dir = Dir::new();
    let mut holder = hold(Place::Container("box"), Protocol::Symlink, &dir);
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    assert!(!finds_free(Place::Host, Protocol::Symlink, &dir));
    open(&dir, Protocol::Symlink).break_lock().unwrap();
    assert!(finds_free(Place::Host, Protocol::Symlink, &dir));
}

/// The first process of a container is not the host's.
#[test]
fn a_holder_in_a_container_is_not_taken_for_a_process_of_the_host() {
    if !has_namespaces() {
        return;
    }
    let host = rustix::system::uname();
    let host: &'static str = String::leak(host.nodename().to_str().unwrap().to_owned());
    for protocol in CARRIERS.into_iter().chain([Protocol::Symlink]) {
        let dir = Dir::new();
        let _holder = hold(Place::Container(host), protocol, &dir);
        let holder = open(&dir, protocol).holder().unwrap().unwrap();
        let seen = (holder.pid, holder.host.as_deref(), holder.elsewhere);
        assert_eq!(seen, (None, Some(host), true), "{protocol}");
        let dir = Dir::new();
        let _holder = hold(Place::Container("box"), protocol, &dir);
        let holder = open(&dir, protocol).holder().unwrap().unwrap();
        let seen = (holder.pid, holder.host.as_deref(), holder.elsewhere);
        assert_eq!(seen, (Some(1), Some("box"), true), "{protocol}");
    }
}
