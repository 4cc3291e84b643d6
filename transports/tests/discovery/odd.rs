//! Addresses of bootstrap nodes with something else behind them: the reason of each failure is reported.

use futures::StreamExt;
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::{NetworkState, Outcome, Reason};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::swarm::{SwarmEvent, dummy};
use libp2p::{SwarmBuilder, noise, tcp, yamux};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::peers::{self, Peer};

/// The outcome of dialling this address as the only one of the only bootstrap node.
async fn outcome(node: PeerId, address: Multiaddr) -> Outcome {
    let at = address.with_p2p(node).unwrap();
    let peer = Peer::start(&peers::in_dht(vec![at]));
    let known = |state: &NetworkState| state.bootstrap[0].addresses[0].1;
    let settled = |outcome| !matches!(outcome, None | Some(Outcome::Connected));
    let state = peer.until(|state| settled(known(state))).await;
    assert!(!state.bootstrap[0].is_reached());
    known(&state).unwrap()
}

/// Answers every connection with these bytes, and continues reading.
async fn answering(bytes: &'static [u8]) -> Multiaddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 64];
                let read = socket.read(&mut asked).await.unwrap_or_default();
                if read > 0 && socket.write_all(bytes).await.is_ok() {
                    tokio::io::copy(&mut socket, &mut tokio::io::sink())
                        .await
                        .ok();
                }
            });
        }
    });
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[tokio::test]
async fn a_portal_that_answers_http_is_told_from_a_node() {
    let portal = answering(b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n").await;
    let outcome = outcome(PeerId::random(), portal).await;
    assert_eq!(outcome, Outcome::Failed(Reason::Http));
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_told_from_a_node() {
    let alert = b"\x15\x03\x01\x00\x02\x02\x16";
    let outcome = outcome(PeerId::random(), answering(alert).await).await;
    assert_eq!(outcome, Outcome::Failed(Reason::Foreign));
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_told_from_one_that_is_not_there() {
    let outcome = outcome(PeerId::random(), answering(b"").await).await;
    assert_eq!(outcome, Outcome::Failed(Reason::Silent));
}

#[tokio::test]
async fn a_node_that_speaks_another_transport_is_named_as_such() {
    let address = "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap();
    let outcome = outcome(PeerId::random(), address).await;
    assert_eq!(outcome, Outcome::Failed(Reason::Unsupported));
}

#[tokio::test]
async fn another_node_at_the_address_is_named() {
    let node = Peer::start(&peers::node());
    let state = node.until(|state| !state.listening.is_empty()).await;
    let outcome = outcome(PeerId::random(), state.listening[0].clone()).await;
    assert_eq!(outcome, Outcome::OtherPeer(node.id));
}

/// Yamux under a protocol name that handover does not support.
#[derive(Clone)]
struct Mplex(yamux::Config);

impl UpgradeInfo for Mplex {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/mplex/6.7.0")
    }
}

impl<C> InboundConnectionUpgrade<C> for Mplex
where
    yamux::Config: InboundConnectionUpgrade<C, Info = &'static str>,
{
    type Output = <yamux::Config as InboundConnectionUpgrade<C>>::Output;
    type Error = <yamux::Config as InboundConnectionUpgrade<C>>::Error;
    type Future = <yamux::Config as InboundConnectionUpgrade<C>>::Future;

    fn upgrade_inbound(self, io: C, name: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(io, name)
    }
}

impl<C> OutboundConnectionUpgrade<C> for Mplex
where
    yamux::Config: OutboundConnectionUpgrade<C, Info = &'static str>,
{
    type Output = <yamux::Config as OutboundConnectionUpgrade<C>>::Output;
    type Error = <yamux::Config as OutboundConnectionUpgrade<C>>::Error;
    type Future = <yamux::Config as OutboundConnectionUpgrade<C>>::Future;

    fn upgrade_outbound(self, io: C, name: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(io, name)
    }
}

#[tokio::test]
async fn a_node_without_a_common_multiplexer_is_named_as_such() {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, || {
            Mplex(yamux::Config::default())
        })
        .unwrap()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .build();
    let node = *swarm.local_peer_id();
    let loopback = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    swarm.listen_on(loopback).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    // The refusal and the close of the connection arrive at the same time, so the dial is repeated until the refusal is
    // seen.
    let at = address.with_p2p(node).unwrap();
    let peer = Peer::start(&peers::in_dht(vec![at]));
    let wanted = Some(Outcome::Failed(Reason::NoMuxer));
    peer.until(|state| state.bootstrap[0].addresses[0].1 == wanted)
        .await;
}
