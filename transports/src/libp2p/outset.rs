//! Startup: dials wait until the listen addresses are known.
//!
//! TCP and QUIC dial from the listening port once they know the listen addresses, which happens shortly after they were
//! told to listen. A dial before that uses another port, and the address that remote nodes then observe is useless for
//! hole punching.

use std::time::Duration;

use libp2p::swarm::dial_opts::DialOpts;
use tokio::time::Instant;

/// Timeout for the first listen address.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long to wait for further addresses after the first: they arrive together.
const SETTLE: Duration = Duration::from_millis(20);
/// Maximum number of delayed dials. Further dials start at once.
const MAX_HELD: usize = 256;

/// Dials delayed until the listen addresses are known.
#[derive(Debug)]
pub(crate) struct Outset {
    until: Option<Instant>,
    held: Vec<DialOpts>,
}

impl Outset {
    /// `listens`: true if there are listen addresses to wait for.
    pub(crate) fn new(listens: bool, now: Instant) -> Self {
        Self {
            until: listens.then_some(now + PATIENCE),
            held: Vec::new(),
        }
    }

    /// A listen address has become known.
    pub(crate) fn listening(&mut self, now: Instant) {
        if let Some(until) = &mut self.until {
            *until = (*until).min(now + SETTLE);
        }
    }

    /// Delays a dial, or returns it to be started now.
    pub(crate) fn hold(&mut self, dial: DialOpts) -> Option<DialOpts> {
        if self.until.is_none() || self.held.len() >= MAX_HELD {
            return Some(dial);
        }
        self.held.push(dial);
        None
    }

    /// When [`over`](Self::over) has dials to return.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.until
    }

    /// Returns the delayed dials if the wait is over.
    pub(crate) fn over(&mut self, now: Instant) -> Vec<DialOpts> {
        match self.until.take_if(|until| *until <= now) {
            Some(_) => std::mem::take(&mut self.held),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn dial() -> DialOpts {
        DialOpts::peer_id(PeerId::random()).build()
    }

    #[test]
    fn dials_wait_for_the_first_addresses_and_not_for_ever() {
        let now = Instant::now();
        let mut outset = Outset::new(true, now);
        assert!(outset.hold(dial()).is_none());
        assert!(outset.over(now).is_empty());
        assert_eq!(outset.next_wake(), Some(now + PATIENCE));
        outset.listening(now);
        outset.listening(now + SETTLE);
        assert_eq!(
            outset.next_wake(),
            Some(now + SETTLE),
            "the first one tells"
        );
        assert_eq!(outset.over(now + SETTLE).len(), 1);
        assert_eq!(outset.next_wake(), None);
        assert!(outset.hold(dial()).is_some(), "it is over");
    }

    #[test]
    fn who_listens_nowhere_does_not_wait() {
        let mut outset = Outset::new(false, Instant::now());
        assert!(outset.hold(dial()).is_some());
    }
}
