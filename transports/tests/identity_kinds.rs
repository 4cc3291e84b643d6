//! Peers with other kinds of identity keys than ours. The public network's bootstrap nodes have RSA keys, and so do
//! many of its older nodes.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use handover_core::engine::DialId;
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::libp2p::link::{self, LinkEvent};
use handover_transports::libp2p::{Libp2pConfig, Libp2pTransport, Listen, public_bootstrap};
use handover_transports::{Transport, TransportEvent, next_event};
use libp2p::identity::{KeyType, PublicKey};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{SwarmBuilder, noise, tcp, tls, yamux};

/// The key types of the libp2p specification.
const KINDS: [KeyType; 4] = [
    KeyType::Ed25519,
    KeyType::RSA,
    KeyType::Secp256k1,
    KeyType::Ecdsa,
];

/// The connections that a stock node accepts.
#[derive(Debug, Clone, Copy)]
enum Connection {
    TcpNoise,
    TcpTls,
    Quic,
}

fn rsa_keypair(size: KeySize) -> Keypair {
    let generated = RsaKeyPair::generate(size).unwrap();
    let der: Pkcs8V1Der<'_> = generated.as_der().unwrap();
    Keypair::rsa_from_pkcs8(&mut der.as_ref().to_vec()).unwrap()
}

fn keypair(kind: &KeyType) -> Keypair {
    match kind {
        KeyType::Ed25519 => Keypair::generate_ed25519(),
        KeyType::Secp256k1 => Keypair::generate_secp256k1(),
        KeyType::Ecdsa => Keypair::generate_ecdsa(),
        KeyType::RSA => rsa_keypair(KeySize::Rsa2048),
    }
}

/// A node built from libp2p's own parts.
fn stock_node(keypair: Keypair, connection: Connection) -> Swarm<link::Behaviour> {
    let builder = SwarmBuilder::with_existing_identity(keypair).with_tokio();
    let tcp = tcp::Config::default;
    match connection {
        Connection::TcpNoise => builder
            .with_tcp(tcp(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| link::Behaviour::default())
            .unwrap()
            .build(),
        Connection::TcpTls => builder
            .with_tcp(tcp(), tls::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| link::Behaviour::default())
            .unwrap()
            .build(),
        Connection::Quic => builder
            .with_quic()
            .with_behaviour(|_| link::Behaviour::default())
            .unwrap()
            .build(),
    }
}

/// Starts a node that echoes what it receives, and returns its identity and address.
async fn echo_node(keypair: Keypair, connection: Connection) -> (PeerId, Multiaddr) {
    let mut swarm = stock_node(keypair, connection);
    let listen = match connection {
        Connection::TcpNoise | Connection::TcpTls => "/ip4/127.0.0.1/tcp/0",
        Connection::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
    };
    swarm.listen_on(listen.parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let peer = *swarm.local_peer_id();
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(LinkEvent::Up { mut stream, .. }) = event {
                tokio::spawn(async move {
                    let mut got = [0; 4];
                    stream.read_exact(&mut got).await.unwrap();
                    stream.write_all(&got).await.unwrap();
                    stream.close().await.unwrap();
                });
            }
        }
    });
    (peer, address)
}

/// Dials the node and has four bytes echoed.
async fn is_reached(peer: PeerId, address: Multiaddr) -> Result<(), String> {
    let mut config = Libp2pConfig::new(Keypair::generate_ed25519());
    config.listen = Listen::Nowhere;
    let mut ours = Libp2pTransport::new(&config).unwrap();
    ours.dial(DialId(0), Some(peer), vec![address]);
    match next_event(&mut ours).await {
        Some(TransportEvent::LinkUp(mut link)) => {
            link.stream.write_all(b"here").await.unwrap();
            link.stream.flush().await.unwrap();
            let mut got = [0; 4];
            link.stream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"here");
            Ok(())
        }
        Some(TransportEvent::DialFailed { reason, .. }) => Err(reason),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test]
async fn nodes_with_other_identities_than_ed25519_could_not_be_dialled() {
    for kind in &KINDS {
        for connection in [Connection::TcpNoise, Connection::TcpTls, Connection::Quic] {
            let (peer, address) = echo_node(keypair(kind), connection).await;
            let reached = is_reached(peer, address).await;
            assert_eq!(reached, Ok(()), "{kind:?} over {connection:?}");
        }
    }
}

/// Some bootstrap nodes have keys of 4096 bits: the signature alone is 512 bytes.
#[tokio::test]
async fn a_large_rsa_identity_is_no_obstacle() {
    for connection in [Connection::TcpNoise, Connection::TcpTls, Connection::Quic] {
        let (peer, address) = echo_node(rsa_keypair(KeySize::Rsa4096), connection).await;
        assert_eq!(is_reached(peer, address).await, Ok(()), "{connection:?}");
    }
}

/// The key types that a peer id may have. A short key is contained in the id itself; longer ones, of more than 42
/// encoded bytes, are hashed.
fn kinds_behind(peer: PeerId) -> Vec<KeyType> {
    const IDENTITY: u64 = 0x00;
    let id = peer.as_ref();
    if id.code() == IDENTITY {
        let key = PublicKey::try_decode_protobuf(id.digest()).expect("a key of a known kind");
        return vec![key.key_type()];
    }
    let hashed = |kind: &KeyType| {
        let encoded = keypair(kind).public().encode_protobuf();
        encoded.len() > 42
    };
    KINDS.into_iter().filter(hashed).collect()
}

#[tokio::test]
async fn every_built_in_bootstrap_node_has_an_identity_that_this_build_verifies() {
    let ids = public_bootstrap().into_iter().map(|address| {
        let last = address.iter().last();
        match last {
            Some(Protocol::P2p(peer)) => peer,
            other => panic!("{address} ends in {other:?}"),
        }
    });
    let mut kinds: Vec<KeyType> = Vec::new();
    for id in ids {
        for kind in kinds_behind(id) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    assert!(kinds.contains(&KeyType::RSA), "hashed ids are among them");
    for kind in &kinds {
        let (peer, address) = echo_node(keypair(kind), Connection::TcpTls).await;
        assert_eq!(is_reached(peer, address).await, Ok(()), "{kind:?}");
    }
}
