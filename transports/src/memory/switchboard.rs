//! A [`Network`](super::Network) on tokio's clock, and the peers that are plugged into it.

use std::sync::Arc;
use std::time::Duration;

use handover_core::PeerId;
use handover_core::engine::PathKind;

use super::MemoryTransport;
use super::clock::Shared;
use super::exchange::Exchange;
use super::profile::{Death, LinkProfile};

/// How two peers reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What links between them are like.
    pub profile: LinkProfile,
    /// What they call the path. It has no influence on the link.
    pub path: PathKind,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            profile: LinkProfile::INSTANT,
            path: PathKind::Loopback,
        }
    }
}

/// Connects [`MemoryTransport`]s through a simulated [`Network`](super::Network).
///
/// Time is tokio's, so it can be paused; tokio's timers, and with them all delays, are exact to a millisecond.
#[derive(Clone)]
pub struct Switchboard {
    shared: Arc<Shared>,
}

impl Switchboard {
    /// A switchboard whose links are like `route` unless told otherwise. To be called in a tokio runtime with time.
    pub fn new(seed: u64, route: Route) -> Self {
        let shared = Shared::start(Exchange::new(seed, route));
        Self { shared }
    }

    /// A transport for this peer. Several may carry one identity.
    pub fn join(&self, peer: PeerId) -> MemoryTransport {
        let port = self.shared.with(|exchange| exchange.join(peer));
        MemoryTransport {
            shared: Arc::clone(&self.shared),
            peer,
            port,
        }
    }

    /// From now on links between these two are like this.
    pub fn set_route(&self, a: PeerId, b: PeerId, route: Route) {
        self.shared.with(|exchange| exchange.set_route(a, b, route));
    }

    /// Let every link between these two die now.
    pub fn kill_links(&self, a: PeerId, b: PeerId) {
        self.shared.with(|exchange| {
            let now = exchange.network.now();
            exchange.each_link(a, b, |network, end| network.kill_link(end, Death::At(now)));
        });
    }

    /// Let every link between these two die when it has delivered so many more bytes, both directions summed.
    pub fn kill_links_after(&self, a: PeerId, b: PeerId, bytes: u64) {
        self.shared.with(|exchange| {
            exchange.each_link(a, b, |network, end| {
                network.kill_link(end, Death::AfterBytes(bytes));
            });
        });
    }

    /// Let nothing arrive on any link between these two for so long.
    pub fn stall_links(&self, a: PeerId, b: PeerId, how_long: Duration) {
        self.shared.with(|exchange| {
            let until = exchange.network.now() + how_long;
            exchange.each_link(a, b, |network, end| network.stall(end, until));
        });
    }
}
