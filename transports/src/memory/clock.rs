//! Runs an [`Exchange`] on tokio's clock.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;

use handover_core::time::Time;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::exchange::Exchange;

/// State shared by all parts of a switchboard.
pub(super) struct Shared {
    exchange: Mutex<Exchange>,
    origin: Instant,
    /// Notified when an event is due earlier than the clock expects, or when the switchboard is dropped.
    changed: Arc<Notify>,
}

impl Shared {
    /// Starts the clock of an exchange at zero.
    pub(super) fn start(exchange: Exchange) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let shared = Arc::new(Self {
            exchange: Mutex::new(exchange),
            origin: Instant::now(),
            changed: Arc::clone(&changed),
        });
        tokio::spawn(run_clock(Arc::downgrade(&shared), changed));
        shared
    }

    /// Advances the network to the present, runs `act`, processes what is due immediately, and wakes the tasks
    /// concerned.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Exchange) -> R) -> R {
        let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Time::ZERO + self.origin.elapsed();
        exchange.pump(now);
        let result = act(&mut exchange);
        exchange.pump(now);
        let wakers = exchange.take_wakers();
        let earlier = exchange.next_event_at() < exchange.clock_wakes_at;
        drop(exchange);
        if earlier {
            self.changed.notify_one();
        }
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// Wakes the network when an event is due, for as long as the switchboard exists.
async fn run_clock(shared: Weak<Shared>, changed: Arc<Notify>) {
    let _guard = ClockGuard(shared.clone());
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let next = strong.with(|exchange| {
            exchange.clock_wakes_at = exchange.next_event_at();
            exchange.clock_wakes_at
        });
        let origin = strong.origin;
        drop(strong);
        let wake_up = async {
            match origin.checked_add(next.since(Time::ZERO)) {
                Some(at) if next < Time::NEVER => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake_up => {}
            () = changed.notified() => {}
        }
    }
}

/// Fails everything on the switchboard when its clock stops; otherwise it would hang silently.
struct ClockGuard(Weak<Shared>);

impl Drop for ClockGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.with(Exchange::stop);
        }
    }
}
