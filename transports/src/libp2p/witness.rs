//! Asks nodes of the DHT as somebody else would: under another name, over connections of its own, which end after that.
//!
//! Nodes of rust-libp2p leave a provider out of what they tell itself, so they can't be asked by it whether its record is
//! there.

use std::collections::HashMap;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::{self, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};

use super::dht::RunId;
use super::dht::wire::{self, Answer, PeerAt, Question};
use super::stack::Connections;

/// How long its connections are kept: one question each.
const IDLE: Duration = Duration::from_millis(500);
/// Questions at once.
const QUESTIONS: usize = 64;

/// The other name.
pub(super) struct Witness {
    swarm: Box<Swarm<wire::Behaviour>>,
    asked: HashMap<OutboundRequestId, (RunId, PeerId)>,
}

/// What a node has answered, or that it has not.
pub(super) type Told = (RunId, PeerId, Option<Answer>);

impl Witness {
    /// `transport` is secured with the keys.
    pub(super) fn new(keypair: &Keypair, transport: Connections) -> Self {
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
        let peer = keypair.public().to_peer_id();
        let swarm = Swarm::new(transport, wire::behaviour(), peer, config);
        Self {
            swarm: Box::new(swarm),
            asked: HashMap::new(),
        }
    }

    /// Asks a node. Whether it will; if so, it ends in [`poll`](Self::poll).
    pub(super) fn ask(&mut self, run: RunId, node: PeerAt, question: Question) -> bool {
        let (node, addresses): (PeerId, Vec<Multiaddr>) = node;
        if self.asked.len() >= QUESTIONS {
            return false;
        }
        let asking = self.swarm.behaviour_mut();
        let id = asking.send_request_with_addresses(&node, question, addresses);
        self.asked.insert(id, (run, node));
        true
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        while let Poll::Ready(Some(event)) = self.swarm.poll_next_unpin(cx) {
            let SwarmEvent::Behaviour(event) = event else {
                continue;
            };
            let Some((id, answer)) = wire::ended(event) else {
                continue;
            };
            let answer = answer.map(|(_, answer)| answer);
            if let Some((run, node)) = self.asked.remove(&id) {
                return Poll::Ready((run, node, answer));
            }
        }
        Poll::Pending
    }
}
