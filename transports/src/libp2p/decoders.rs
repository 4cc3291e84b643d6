//! Entry point for fuzzers: all code that parses messages from DHT nodes, relays and nodes that dial back. These are
//! strangers, and anybody may be one.

use futures::executor::block_on;
use futures::io::Cursor;
use handover_core::dial::{is_relayed, relay_of};
use handover_core::network::Network;
use libp2p::request_response::Codec;
use libp2p::swarm::StreamProtocol;
use libp2p::{Multiaddr, PeerId};

use super::circuit::CircuitLimit;
use super::circuit::messages::{HopMessage, MAX_ADDRESSES, StopMessage};
use super::config::Libp2pConfig;
use super::delimited::{MAX_MESSAGE, read};
use super::dht::wire::Wire;
use super::dial_back;
use super::greeting::Greeted;
use super::outbound::Permits;

/// Maximum number of peers used from one node's answer (twenty each of closer nodes and providers), and of addresses of
/// each.
const MAX_PEERS: usize = 2 * 20;
const MAX_PEER_ADDRESSES: usize = 8;

/// Parses bytes as every message that a stranger may send, and checks that the results are bounded.
pub fn read_all(bytes: &[u8]) {
    from_a_relay(bytes);
    from_a_node(bytes);
    from_who_dials_back(bytes);
    an_address(bytes);
    a_first_word(bytes);
}

fn from_a_relay(bytes: &[u8]) {
    let relay = PeerId::from_bytes(&[0, 1, 7]).unwrap_or_else(|_| PeerId::random());
    let mut stream = Cursor::new(bytes);
    if let Ok(message) = block_on(read::<HopMessage>(&mut stream)) {
        let _ = message.answer();
        let _ = CircuitLimit::of(message.limit);
        if let Some(reservation) = message.reservation {
            let ways = reservation.ways(relay);
            assert!(ways.len() <= MAX_ADDRESSES);
            assert!(ways.iter().all(|way| !is_relayed(way)));
        }
    }
    assert!(stream.position() <= MAX_MESSAGE as u64 + 8);
    if let Ok(message) = block_on(read::<StopMessage>(&mut Cursor::new(bytes))) {
        let _ = message.source();
        let _ = CircuitLimit::of(message.limit);
    }
}

fn from_a_node(bytes: &[u8]) {
    let protocol = StreamProtocol::new("/ipfs/kad/1.0.0");
    let mut wire = Wire::default();
    let answer = block_on(wire.read_response(&protocol, &mut Cursor::new(bytes)));
    let Ok(answer) = answer else {
        return;
    };
    let peers = answer.closer.iter().chain(&answer.providers);
    assert!(peers.clone().count() <= MAX_PEERS);
    assert!(
        peers
            .clone()
            .all(|(_, addresses)| addresses.len() <= MAX_PEER_ADDRESSES)
    );
}

fn from_who_dials_back(bytes: &[u8]) {
    let message = block_on(read::<dial_back::messages::Message>(&mut Cursor::new(
        bytes,
    )));
    if let Ok(message) = message {
        let _ = message.answer();
    }
}

/// Runs the checks that an address passes before it is dialled.
fn an_address(bytes: &[u8]) {
    let Ok(address) = Multiaddr::try_from(bytes.to_vec()) else {
        return;
    };
    let keypair = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]);
    let Ok(keypair) = keypair else {
        return;
    };
    let permits = Permits::of(&Libp2pConfig::new(keypair));
    let may = permits.may_dial(&address);
    assert_eq!(
        may,
        permits.may_dial(&address),
        "a question changes nothing"
    );
    let _ = (relay_of(&address), Network::of(&address));
}

/// Checks the first byte that a dialled node sends, before any negotiation.
fn a_first_word(bytes: &[u8]) {
    use futures::AsyncReadExt;
    let mut greeted = Greeted::new(Cursor::new(bytes.to_vec()), true);
    let mut all = Vec::new();
    let read = block_on(greeted.read_to_end(&mut all));
    let is_libp2p = bytes.first().is_none_or(|first| *first == 19);
    assert_eq!(read.is_ok(), is_libp2p);
}
