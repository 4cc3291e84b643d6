//! Queries nodes of the DHT under another peer id, over short-lived connections of its own.
//!
//! rust-libp2p nodes leave a provider out of their answers to that provider, so it can't ask them itself whether they
//! have its record.

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

/// Idle timeout of its connections, each used for one question.
const IDLE: Duration = Duration::from_millis(500);
/// Maximum number of concurrent questions.
const QUESTIONS: usize = 64;

/// The swarm with the other peer id.
pub(super) struct Witness {
    swarm: Box<Swarm<wire::Behaviour>>,
    asked: HashMap<OutboundRequestId, (RunId, PeerId)>,
}

/// A node's answer, or `None` if it did not answer.
pub(super) type Told = (RunId, PeerId, Option<Answer>);

impl Witness {
    /// `transport` must be secured with `keypair`.
    pub(super) fn new(keypair: &Keypair, transport: Connections) -> Self {
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
        let peer = keypair.public().to_peer_id();
        let swarm = Swarm::new(transport, wire::behaviour(), peer, config);
        Self {
            swarm: Box::new(swarm),
            asked: HashMap::new(),
        }
    }

    /// Sends a question to a node. Returns false if there are too many; otherwise [`poll`](Self::poll) returns the
    /// result.
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
