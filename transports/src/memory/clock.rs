//! Runs an [`Exchange`] on tokio's clock.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;

use handover_core::time::Time;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::exchange::Exchange;

/// What all parts of a switchboard hold.
pub(super) struct Shared {
    exchange: Mutex<Exchange>,
    origin: Instant,
    /// Something is due earlier than the clock thinks, or the switchboard is gone.
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

    /// Brings the network up to the present, does something, lets what is due at once happen, and wakes whom it concerns.
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

/// Wakes the network when something is due, for as long as anybody holds the switchboard.
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

/// Without its clock a switchboard would hang in silence: everything on it fails instead.
struct ClockGuard(Weak<Shared>);

impl Drop for ClockGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.with(Exchange::stop);
        }
    }
}
