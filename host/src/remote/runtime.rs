//! The thread on which the conversations with a server run, whatever the caller's runtime is.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use crate::sys;

/// One thread that runs tasks until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    _alive: Arc<watch::Sender<()>>,
}

impl Runtime {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, mut over) = watch::channel(());
        // TLS and the libraries of the servers need more than the engine's own threads.
        let stack = 2 << 20;
        sys::spawn(name, stack, move || {
            runtime.block_on(async { while over.changed().await.is_ok() {} });
            // What is still to be said to the server has had its time by then.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            handle,
            _alive: Arc::new(alive),
        })
    }
    /// Whether the calling thread is the one of this runtime.
    pub(crate) fn is_current(&self) -> bool {
        Handle::try_current().is_ok_and(|handle| handle.id() == self.handle.id())
    }

    /// Starts a task. It ends with the runtime.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Runs `task` on that thread, and blocks the calling one until it is over. The calling thread
    /// may be one of another runtime.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        if self.is_current() {
            // It would wait for itself. What the task has is dropped, and so given up.
            let why = "the thread of the remote cannot wait for itself";
            return Err(io::Error::other(why));
        }
        let (done, result) = oneshot::channel();
        self.handle.spawn(async move {
            let _ = done.send(task.await);
        });
        let result = block_on(result);
        result.unwrap_or_else(|| Err(io::Error::other("the thread of the remote has ended")))
    }
}

/// Blocks the thread. Not by tokio, which refuses that within its own threads.
fn block_on<T>(result: oneshot::Receiver<T>) -> Option<T> {
    use crate::sync::Parker;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut result = pin!(result);
    loop {
        match result.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result.ok(),
            Poll::Pending => _ = parker.sleep(None),
        }
    }
}
