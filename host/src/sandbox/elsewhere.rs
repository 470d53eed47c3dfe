//! What a guest asks of a lock that may not answer at once, kept off the thread of its task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::{Mutex, lock};
use crate::waiter::WaiterPool;

/// An answer, at once or from a helper. What was asked is carried out even if this is dropped.
#[must_use = "futures do nothing unless polled"]
pub(super) enum Elsewhere<T> {
    Known(Option<T>),
    Asked(Arc<Mutex<Asked<T>>>),
}

pub(super) struct Asked<T> {
    answer: Option<T>,
    waker: Option<Waker>,
    /// Whether there will be no answer, or no other one.
    over: bool,
}

/// Answers, and tells even of a panic that there is no answer.
struct Answers<T>(Arc<Mutex<Asked<T>>>);

impl<T> Drop for Answers<T> {
    fn drop(&mut self) {
        let mut asked = lock(&self.0);
        asked.over = true;
        let waker = asked.waker.take();
        drop(asked);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send + 'static> Elsewhere<T> {
    /// Has a helper ask. If no thread is left, the caller does.
    pub(super) fn ask(pool: &Arc<WaiterPool>, ask: impl FnOnce() -> T + Send + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Asked {
            answer: None,
            waker: None,
            over: false,
        }));
        let ask = Arc::new(Mutex::new(Some((ask, Answers(Arc::clone(&asked))))));
        let task = {
            let ask = Arc::clone(&ask);
            move || run(&ask)
        };
        if !pool.run_task(task) {
            run(&ask);
        }
        Self::Asked(asked)
    }
}

fn run<T>(ask: &Mutex<Option<(impl FnOnce() -> T, Answers<T>)>>) {
    let ask = lock(ask).take();
    if let Some((ask, answers)) = ask {
        let answer = ask();
        lock(&answers.0).answer = Some(answer);
    }
}

impl<T> Unpin for Elsewhere<T> {}

impl<T> Future for Elsewhere<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let asked = match self.get_mut() {
            Self::Known(answer) => {
                return Poll::Ready(answer.take().expect("it is not polled after completion"));
            }
            Self::Asked(asked) => asked,
        };
        let mut asked = lock(asked);
        if let Some(answer) = asked.answer.take() {
            return Poll::Ready(answer);
        }
        assert!(!asked.over, "the thread that asked has panicked");
        // Dropping a waker can drop a task: not under the mutex.
        let old = asked.waker.replace(cx.waker().clone());
        drop(asked);
        drop(old);
        Poll::Pending
    }
}
