//! Tests of announcing and looking up.

use handover_core::Multiaddr;
use handover_core::engine::{LookUpId, PathKind};
use handover_core::secret::MeetingPoint;
use handover_transports::libp2p::{Libp2pError, Libp2pTransport, Reachable};
use handover_transports::{Transport, TransportEvent};

use crate::peers::{Peer, config, connect, exchange, in_dht, node};

pub(crate) const POINT: MeetingPoint = MeetingPoint([42; 32]);

pub(crate) async fn announce(peer: &mut Peer) -> bool {
    peer.ask(|transport| transport.announce(POINT)).await;
    announced(peer).await
}

pub(crate) async fn announced(peer: &mut Peer) -> bool {
    peer.event(|event| match event {
        Some(TransportEvent::Announced { point, report }) if *point == POINT => {
            Some(report.found_at > 0)
        }
        _ => None,
    })
    .await
}

/// Looks up a peer. Returns whether any node answered, and the addresses found.
pub(crate) async fn look_up(peer: &mut Peer, sought: &Peer) -> (bool, Option<Vec<Multiaddr>>) {
    let lookup = LookUpId(1);
    peer.ask(move |transport| transport.look_up(lookup, POINT))
        .await;
    let mut found = None;
    let reached = peer
        .event(|event| match event {
            Some(TransportEvent::Found {
                peer, addresses, ..
            }) if *peer == sought.id => {
                found = Some(addresses.clone());
                None
            }
            Some(TransportEvent::LookedUp { reached, .. }) => Some(*reached),
            _ => None,
        })
        .await;
    (reached, found)
}

#[tokio::test]
async fn who_only_knows_one_node_is_found_by_who_knows_the_same() {
    let node = Peer::start(&node());
    let known = in_dht(node.at().await);
    let mut sharing = known.clone();
    sharing.keypair = handover_core::Keypair::generate_ed25519();
    sharing.reachable = Reachable::Listening;
    let (mut sharer, mut receiver) = (Peer::start(&sharing), Peer::start(&known));
    sharer.at().await;
    assert!(announce(&mut sharer).await);
    let (reached, found) = look_up(&mut receiver, &sharer).await;
    assert!(reached);
    let found = found.expect("the sharer");
    assert!(!found.is_empty());
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, found).await;
    assert_eq!(here.path, PathKind::Loopback);
    exchange(&mut here, &mut there, b"found you").await;
    let state = receiver.network().await;
    assert_eq!(
        (state.bootstrap_configured, state.bootstrap_connected),
        (1, 1)
    );
    assert!(state.dht_nodes >= 1);
    let state = node.network().await;
    assert!(state.served.serving);
    assert_eq!(state.served.dht_keys, 1);
}

#[tokio::test]
async fn a_provider_that_told_no_addresses_is_found_with_some() {
    let first = Peer::start(&node());
    let mut sharing = node();
    sharing.bootstrap = first.at().await;
    // It serves the DHT, so nodes that dialled it know its addresses; its record contains none.
    sharing.reachable = Reachable::At(Vec::new());
    let mut sharer = Peer::start(&sharing);
    let at = sharer.at().await;
    assert!(!announce(&mut sharer).await, "a record without an address");
    let mut knowing = node();
    knowing.bootstrap = [first.at().await, at.clone()].concat();
    let second = Peer::start(&knowing);
    second.until(|state| state.dht_nodes >= 2).await;
    first.until(|state| state.dht_nodes >= 1).await;
    let looking = in_dht(first.at().await);
    // It looks up before it knows more nodes than the first.
    let mut receiver = Peer::start(&looking);
    let (reached, found) = look_up(&mut receiver, &sharer).await;
    assert!(reached);
    let found = found.expect("the sharer");
    let plain: Vec<String> = at.iter().map(ToString::to_string).collect();
    assert!(!found.is_empty());
    for address in found {
        let listed = |at: &String| at.starts_with(&address.to_string());
        assert!(plain.iter().any(listed), "{address} is not of {plain:?}");
    }
}

#[tokio::test]
async fn two_that_serve_and_share_find_each_other() {
    let mut first = Peer::start(&node());
    let mut joining = node();
    joining.bootstrap = first.at().await;
    let mut second = Peer::start(&joining);
    second.until(|state| state.dht_nodes >= 1).await;
    first.until(|state| state.dht_nodes >= 1).await;
    assert!(announce(&mut first).await);
    assert!(announce(&mut second).await);
    assert!(look_up(&mut second, &first).await.1.is_some());
    let found = look_up(&mut first, &second).await.1.expect("the other");
    connect(&mut first, &mut second, 1, found).await;
}

#[tokio::test]
async fn who_knows_nobody_is_told_so() {
    let mut alone = config();
    for dht in [false, true] {
        alone.dht = dht;
        let mut peer = Peer::start(&alone);
        let nobody = Peer::start(&config());
        assert_eq!(look_up(&mut peer, &nobody).await, (false, None));
        assert!(!announce(&mut peer).await);
    }
}

#[tokio::test]
async fn a_bootstrap_node_that_is_not_there_is_not_waited_for_for_ever() {
    let mut lost = config();
    lost.dht = true;
    let nobody = Peer::start(&config());
    lost.bootstrap = vec![
        format!("/ip4/127.0.0.1/tcp/1/p2p/{}", nobody.id)
            .parse()
            .unwrap(),
    ];
    let mut peer = Peer::start(&lost);
    assert_eq!(look_up(&mut peer, &nobody).await, (false, None));
}

#[tokio::test]
async fn a_bootstrap_node_that_comes_late_is_found() {
    let late = node();
    let early = Peer::start(&late);
    let at = early.at().await;
    early.kill();
    let known = in_dht(at.clone());
    let peer = Peer::start(&known);
    peer.at().await;
    assert_eq!(peer.network().await.bootstrap_connected, 0);
    let mut again = late.clone();
    let plain = at.iter().map(|address| {
        let mut address = address.clone();
        address.pop();
        address
    });
    again.listen = handover_transports::libp2p::Listen::At(plain.collect());
    let _late = Peer::start(&again);
    peer.until(|state| state.bootstrap_connected == 1 && state.dht_nodes > 0)
        .await;
}

#[tokio::test]
async fn a_bootstrap_node_may_be_named() {
    let node = Peer::start(&node());
    let named = node.at().await[0]
        .to_string()
        .replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    let mut known = config();
    known.bootstrap = vec![named.parse().unwrap()];
    let peer = Peer::start(&known);
    peer.until(|state| state.bootstrap_connected == 1).await;
}

#[tokio::test]
async fn nothing_more_is_told_of_a_look_up_that_was_ended() {
    let node = Peer::start(&node());
    let known = in_dht(node.at().await);
    let mut peer = Peer::start(&known);
    peer.until(|state| state.dht_nodes > 0).await;
    peer.ask(|transport| {
        transport.look_up(LookUpId(7), POINT);
        transport.end_look_up(LookUpId(7));
        transport.look_up(LookUpId(8), POINT);
    })
    .await;
    let ended = peer
        .event(|event| match event {
            Some(TransportEvent::LookedUp { lookup, .. }) => Some(*lookup),
            _ => None,
        })
        .await;
    assert_eq!(ended, LookUpId(8));
    let of_ended = |event: &TransportEvent| matches!(event, TransportEvent::LookedUp { lookup, .. } if *lookup == LookUpId(7));
    assert!(!peer.has_seen(of_ended));
}

#[tokio::test]
async fn a_node_without_a_name_is_refused() {
    let nameless: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let mut wrong = config();
    wrong.bootstrap = vec![nameless.clone()];
    let error = Libp2pTransport::new(&wrong).err().unwrap();
    assert!(matches!(&error, Libp2pError::Bootstrap(address) if *address == nameless));
    assert!(error.to_string().contains("/p2p/"), "{error}");
    let mut wrong = config();
    wrong.relays = vec![nameless];
    assert!(matches!(
        Libp2pTransport::new(&wrong),
        Err(Libp2pError::Relay(_))
    ));
}
