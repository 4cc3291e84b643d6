//! A [`Network`](super::Network) on tokio's clock, and the peers that have joined it.

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
    /// Properties of links between them.
    pub profile: LinkProfile,
    /// The path kind that links report. It does not affect the link.
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
/// Time is tokio's, so it can be paused. Tokio's timers, and therefore all delays, have a resolution of one
/// millisecond.
#[derive(Clone)]
pub struct Switchboard {
    shared: Arc<Shared>,
}

impl Switchboard {
    /// A switchboard with `route` as the default for all links. Must be called in a tokio runtime with time enabled.
    pub fn new(seed: u64, route: Route) -> Self {
        let shared = Shared::start(Exchange::new(seed, route));
        Self { shared }
    }

    /// A transport for this peer. Several transports may have the same identity.
    pub fn join(&self, peer: PeerId) -> MemoryTransport {
        let port = self.shared.with(|exchange| exchange.join(peer));
        MemoryTransport {
            shared: Arc::clone(&self.shared),
            peer,
            port,
        }
    }

    /// Sets the route for future links between these two peers.
    pub fn set_route(&self, a: PeerId, b: PeerId, route: Route) {
        self.shared.with(|exchange| exchange.set_route(a, b, route));
    }

    /// Kills every link between these two peers now.
    pub fn kill_links(&self, a: PeerId, b: PeerId) {
        self.shared.with(|exchange| {
            let now = exchange.network.now();
            exchange.each_link(a, b, |network, end| network.kill_link(end, Death::At(now)));
        });
    }

    /// Kills every link between these two peers once it has delivered this number of further bytes, both directions
    /// summed.
    pub fn kill_links_after(&self, a: PeerId, b: PeerId, bytes: u64) {
        self.shared.with(|exchange| {
            exchange.each_link(a, b, |network, end| {
                network.kill_link(end, Death::AfterBytes(bytes));
            });
        });
    }

    /// Stalls every link between these two peers for this time: nothing arrives before it is over.
    pub fn stall_links(&self, a: PeerId, b: PeerId, how_long: Duration) {
        self.shared.with(|exchange| {
            let until = exchange.network.now() + how_long;
            exchange.each_link(a, b, |network, end| network.stall(end, until));
        });
    }
}
