//! The process that serves a file system.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Switches;
use super::files::Files;
use super::wire::{Answer, LARGEST, Request};

/// The variables that tell the daemon what to do.
pub(crate) const DIR: &str = "LOCKET_TEST_FUSE_DIR";
pub(crate) const SWITCHES: &str = "LOCKET_TEST_FUSE_SWITCHES";

/// How a line of the daemon begins that is an answer, and the answer to what it has done.
pub(crate) const ANSWER: &str = "file system: ";
pub(crate) const DONE: &str = "done";

/// No test stops a file system for longer. If one does, nobody is left to resume it.
const LONGEST_STOP: Duration = Duration::from_secs(30);

/// What the threads of the daemon share.
struct Daemon {
    dir: PathBuf,
    device: File,
    stopped: Mutex<bool>,
    resumed: Condvar,
}

/// Mounts and serves a file system, as told by the program that started this one, until its input
/// ends. Returns at once if nobody did.
///
/// # Panics
///
/// If it was told what it does not understand.
pub fn serve() {
    let (Some(dir), Ok(switches)) = (env::var_os(DIR), env::var(SWITCHES)) else {
        return;
    };
    let switches = switches.parse().expect("the switches are two");
    let daemon = match Daemon::new(dir.into()) {
        Ok(daemon) => Arc::new(daemon),
        Err(e) => return say(format_args!("cannot open /dev/fuse: {e}")),
    };
    if let Err(reason) = daemon.mount() {
        return say(format_args!("{reason}"));
    }
    let serves = Arc::clone(&daemon);
    thread::spawn(move || {
        let ended = serves.run(switches).err();
        // It is unmounted already if the device is gone.
        let ended = ended.filter(|e| e.raw_os_error() != Some(Errno::NODEV.raw_os_error()));
        if let Some(e) = &ended {
            eprintln!("the file system ends: {e}");
        }
        serves.end(i32::from(ended.is_some()));
    });
    say(format_args!("{DONE}"));
    for line in io::stdin().lines().map_while(Result::ok) {
        *daemon.stopped() = line == "stop";
        daemon.resumed.notify_all();
        say(format_args!("{DONE}"));
    }
    daemon.end(0);
}

fn say(what: std::fmt::Arguments<'_>) {
    // The harness of a test may have begun a line.
    println!("\n{ANSWER}{what}");
}

impl Daemon {
    fn new(dir: PathBuf) -> io::Result<Self> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(nonblocking);
        Ok(Self {
            dir,
            device: options.open("/dev/fuse")?,
            stopped: Mutex::default(),
            resumed: Condvar::new(),
        })
    }

    fn stopped(&self) -> MutexGuard<'_, bool> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program `mount` gets the device as its standard input.
    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        let options = "fd=0,rootmode=40777,user_id=0,group_id=0,allow_other,nosuid,nodev";
        mount
            .args(["-i", "-t", "fuse", "-o", options, "locket-test"])
            .arg(&self.dir);
        let device = self.device.try_clone().map_err(|e| e.to_string())?;
        let mounted = mount.stdin(Stdio::from(device)).output();
        let mounted = mounted.map_err(|e| format!("cannot run mount: {e}"))?;
        match mounted.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&mounted.stderr)
                .trim()
                .replace('\n', " ")),
        }
    }

    /// Answers until the file system is unmounted.
    fn run(&self, switches: Switches) -> io::Result<()> {
        let mut files = Files::new(switches);
        let mut buffer = vec![0; LARGEST];
        loop {
            poll(&mut [PollFd::new(&self.device, PollFlags::IN)], None)?;
            let mut stopped = self.stopped();
            while *stopped {
                let (again, waited) = self
                    .resumed
                    .wait_timeout(stopped, LONGEST_STOP)
                    .unwrap_or_else(PoisonError::into_inner);
                stopped = again;
                if *stopped && waited.timed_out() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            // What it has not read, the system can still take back.
            let length = match (&self.device).read(&mut buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                // Taken back.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            for (id, answer) in files.answer(&Request::parse(&buffer[..length])) {
                Answer::send(answer, id, &self.device)?;
            }
        }
    }

    /// Unmounts and ends the process, and with it all calls that hang.
    fn end(&self, code: i32) -> ! {
        *self.stopped() = false;
        self.resumed.notify_all();
        unmount(&self.dir);
        process::exit(code);
    }
}

/// Unmounts a file system, whether or not it answers.
pub(crate) fn unmount(dir: &Path) {
    let mut unmount = Command::new("umount");
    // Its answer is that of a file system which may be gone.
    let _ = unmount.args(["-i", "-l", "-c"]).arg(dir).output();
}
