//! Frames that are opened or sealed on worker threads; results are returned in the order of submission.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::task::JoinHandle;

/// Frames smaller than this many bytes are processed inline: waking a thread would cost more.
pub(super) const INLINE: usize = 16 * 1024;
/// Maximum number of frames of one link and direction that are processed at once.
const AT_ONCE: usize = 8;

/// A queue of tasks whose results are returned in the order of submission.
pub(super) struct InOrder<T> {
    work: VecDeque<Slot<T>>,
}

enum Slot<T> {
    Done(T),
    Running(JoinHandle<T>),
}

impl<T: Send + 'static> InOrder<T> {
    pub(super) fn new() -> Self {
        Self {
            work: VecDeque::with_capacity(AT_ONCE),
        }
    }

    /// True if no task is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    /// True if the queue is full.
    pub(super) fn is_full(&self) -> bool {
        self.work.len() >= AT_ONCE
    }

    /// Queues a task that processes `bytes` bytes. It runs on a worker thread if that is at least [`INLINE`], else
    /// inline.
    pub(super) fn push(&mut self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) {
        self.work.push_back(if bytes < INLINE {
            Slot::Done(work())
        } else {
            Slot::Running(tokio::task::spawn_blocking(work))
        });
    }

    /// Returns the oldest result once it is ready. Never resolves while the queue is empty. Cancel-safe.
    pub(super) async fn next(&mut self) -> T {
        poll_fn(|cx| {
            let Some(Slot::Running(task)) = self.work.front_mut() else {
                return match self.work.pop_front() {
                    Some(Slot::Done(result)) => Poll::Ready(result),
                    _ => Poll::Pending,
                };
            };
            let Poll::Ready(result) = Pin::new(task).poll(cx) else {
                return Poll::Pending;
            };
            self.work.pop_front();
            match result {
                Ok(result) => Poll::Ready(result),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is shutting down, and this task with it.
                Err(_) => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn results_come_in_order_whichever_is_done_first() {
        let mut work = InOrder::new();
        work.push(INLINE, || {
            std::thread::sleep(Duration::from_millis(30));
            1
        });
        work.push(INLINE, || 2);
        work.push(0, || 3);
        assert_eq!(
            (work.next().await, work.next().await, work.next().await),
            (1, 2, 3)
        );
    }
}
