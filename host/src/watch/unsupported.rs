//! Systems on which nothing is watched yet.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use super::{Interest, Key, Watcher};

#[derive(Debug, Default)]
pub(super) struct State;

pub(super) fn watch(_: &Arc<Watcher>, _: &File, interest: Interest) -> io::Result<Key> {
    let Interest {
        entries: _,
        waker: _,
    } = interest;
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn watch_close(_: &Arc<Watcher>, _: &File, _: Waker) -> io::Result<Key> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn watch_process(_: &Arc<Watcher>, _: u32, _: Waker) -> io::Result<Key> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn forget(_: &Watcher, _: Key) {}
