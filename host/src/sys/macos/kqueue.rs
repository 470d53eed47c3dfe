//! Notices of the system, by a kqueue.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;
use std::slice;
use std::time::Duration;

use rustix::event::kqueue::{
    Event, EventFilter, EventFlags, ProcessEvents, UserDefinedFlags, UserFlags, VnodeEvents,
    kevent, kqueue,
};
use rustix::io::Errno;
use rustix::process::Pid;

use super::{Identity, path_of};

/// What the system reports.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The directory with this descriptor, or its entries, have changed.
    Directory(i32),
    /// This process has ended.
    Process(u32),
    /// [`Kqueue::wake`] was called.
    Nothing,
}

/// What is watched, and what has been reported.
#[derive(Debug)]
pub(crate) struct Kqueue(OwnedFd);

/// The one event that this process triggers itself.
const WAKE: isize = 0;

impl Kqueue {
    pub(crate) fn new() -> io::Result<Self> {
        let this = Self(kqueue()?);
        // macOS makes it without the flag; a forked child does not inherit it in any case.
        rustix::io::fcntl_setfd(&this.0, rustix::io::FdFlags::CLOEXEC)?;
        this.change(
            Self::wake_event(UserFlags::empty()),
            EventFlags::ADD | EventFlags::CLEAR,
        )?;
        Ok(this)
    }

    /// Reports each change of a directory and its entries, until `dir` is closed.
    pub(crate) fn watch_directory(&self, dir: &File) -> io::Result<()> {
        let flags = VnodeEvents::WRITE
            | VnodeEvents::LINK
            | VnodeEvents::DELETE
            | VnodeEvents::RENAME
            | VnodeEvents::REVOKE;
        let vnode = dir.as_raw_fd();
        let filter = EventFilter::Vnode { vnode, flags };
        self.change(filter, EventFlags::ADD | EventFlags::CLEAR)
    }

    /// Reports the end of a process, once. Fails if it has ended.
    pub(crate) fn watch_process(&self, pid: u32) -> io::Result<()> {
        self.change(end_of(pid)?, EventFlags::ADD | EventFlags::ONESHOT)
    }

    /// Reports it no more.
    pub(crate) fn forget_process(&self, pid: u32) {
        // After the report there is nothing to delete.
        let _ = end_of(pid).and_then(|end| self.change(end, EventFlags::DELETE));
    }

    /// Ends a call of [`wait`](Self::wait), or the next one.
    pub(crate) fn wake(&self) {
        let woken = self.change(Self::wake_event(UserFlags::TRIGGER), EventFlags::empty());
        debug_assert!(woken.is_ok(), "{woken:?}");
    }

    fn wake_event(flags: UserFlags) -> EventFilter {
        EventFilter::User {
            ident: WAKE,
            flags,
            user_flags: UserDefinedFlags::new(0),
        }
    }

    /// Waits for notices.
    pub(crate) fn wait(&self) -> io::Result<Vec<Notice>> {
        let mut room = [const { MaybeUninit::uninit() }; 16];
        loop {
            // SAFETY: nothing is added here.
            let events = match unsafe { kevent(&self.0, &[], &mut room, None) } {
                Ok((events, _)) => events,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let notice = |event: &Event| match event.filter() {
                EventFilter::Vnode { vnode, .. } => Notice::Directory(vnode),
                EventFilter::Proc { pid, .. } => Notice::Process(pid.as_raw_pid().cast_unsigned()),
                _ => Notice::Nothing,
            };
            return Ok(events.iter().map(notice).collect());
        }
    }

    fn change(&self, filter: EventFilter, flags: EventFlags) -> io::Result<()> {
        let event = Event::new(filter, flags, ptr::null_mut());
        let mut room: [MaybeUninit<Event>; 0] = [];
        // SAFETY: the descriptor of a directory is open during the call. The system forgets it when
        // it is closed.
        let changed = unsafe {
            kevent(
                &self.0,
                slice::from_ref(&event),
                &mut room,
                Some(Duration::ZERO),
            )
        };
        Ok(changed.map(drop)?)
    }
}

fn end_of(pid: u32) -> io::Result<EventFilter> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(EventFilter::Proc {
        pid: pid.ok_or(io::ErrorKind::InvalidInput)?,
        flags: ProcessEvents::EXIT,
    })
}

/// Another descriptor of a directory, which holds up neither its removal nor that of its file system.
pub(crate) fn open_for_notices(dir: &File) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_EVTONLY);
    let again = options.open(path_of(dir)?)?;
    let identity = |file: &File| Identity::of(file, &file.metadata()?);
    if identity(&again)? == identity(dir)? {
        Ok(again)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
