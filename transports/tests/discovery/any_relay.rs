//! Relays that open circuits as implementations other than rust-libp2p do, and malicious relays.

use handover_core::PeerId;
use handover_core::engine::PathKind;
use handover_transports::Transport;
use handover_transports::libp2p::circuit::Status;
use handover_transports::libp2p::{Libp2pConfig, NetworkState, Reachable};

use crate::fake_relay::{Answers, FakeRelay, Picks};
use crate::peers::{Peer, config, connect, exchange};
use crate::search::POINT;

/// Configures a peer with a reservation at this relay, which it dials over TCP and QUIC.
fn behind(relay: &FakeRelay) -> Libp2pConfig {
    let mut config = config();
    config.punch = true;
    config.reservations = 1;
    config.relays = relay.at();
    config
}

fn reserved(state: &NetworkState) -> bool {
    !state.reservations.is_empty()
}

#[tokio::test]
async fn a_circuit_is_taken_on_whichever_connection_the_relay_opens_it() {
    for picks in [Picks::Reserved, Picks::Other] {
        let mut relay = FakeRelay::start(picks, Answers::Well).await;
        let mut sharer = Peer::start(&behind(&relay));
        let mut receiver = Peer::start(&config());
        let id = sharer.id;
        let two = |peers: &crate::fake_relay::Seen| {
            peers.connections.get(&id).is_some_and(|all| all.len() == 2)
        };
        relay.until(two).await;
        let circuits = sharer.circuits().await;
        let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
        assert_eq!(
            (here.path, there.path),
            (PathKind::Relayed, PathKind::Relayed)
        );
        exchange(&mut here, &mut there, b"whichever it is").await;
        let seen = relay.until(|seen| !seen.answers.is_empty()).await;
        assert_eq!(seen.answers, [Some(Status::Ok)], "{picks:?}");
        assert_eq!(seen.reserved, 1, "one reservation a relay");
    }
}

#[tokio::test]
async fn what_a_relay_lets_circuits_carry_is_known() {
    let relay = FakeRelay::start(Picks::Reserved, Answers::Well).await;
    let sharer = Peer::start(&behind(&relay));
    let state = sharer.until(reserved).await;
    let limit = state.reservations[0].limit.expect("it told");
    assert_eq!(limit.bytes, Some(1 << 17));
    assert_eq!(limit.duration, Some(std::time::Duration::from_mins(2)));
}

#[tokio::test]
async fn a_reservation_outlives_the_connection_that_it_was_made_on() {
    let mut relay = FakeRelay::start(Picks::Reserved, Answers::Well).await;
    let mut sharer = Peer::start(&behind(&relay));
    let id = sharer.id;
    let connections =
        |seen: &crate::fake_relay::Seen| seen.connections.get(&id).map_or(0, Vec::len);
    let seen = relay
        .until(|seen| seen.reserved == 1 && connections(seen) == 2)
        .await;
    sharer.until(reserved).await;
    relay.close(seen.on.expect("it was asked"));
    let again = relay
        .until(|seen| seen.reserved == 2 && connections(seen) == 1)
        .await;
    assert_ne!(again.on, seen.on, "on the connection that is left");
    let circuits = sharer.circuits().await;
    let mut receiver = Peer::start(&config());
    let (mut here, mut there) = connect(&mut receiver, &mut sharer, 1, circuits).await;
    exchange(&mut here, &mut there, b"still there").await;
}

#[tokio::test]
async fn a_circuit_that_nobody_reserved_for_is_refused() {
    let mut relay = FakeRelay::start(Picks::Other, Answers::Nonsense).await;
    let sharer = Peer::start(&behind(&relay));
    relay.until(|seen| seen.reserved > 0).await;
    // The answer is invalid, so no reservation is held.
    sharer.until(|state| state.connections.loopback > 0).await;
    let refused =
        |seen: &crate::fake_relay::Seen| seen.answers.contains(&Some(Status::NoReservation));
    loop {
        relay.offer(sharer.id, PeerId::random());
        let count = relay.until(|_| true).await.answers.len();
        let seen = relay.until(|seen| seen.answers.len() > count).await;
        if refused(&seen) {
            break;
        }
    }
    assert!(!reserved(&sharer.network().await));
}

#[tokio::test]
async fn a_relay_that_answers_badly_is_no_relay_and_does_no_harm() {
    for answers in [
        Answers::Nonsense,
        Answers::AtLength,
        Answers::Shortly,
        Answers::Never,
    ] {
        let mut bad = FakeRelay::start(Picks::Other, answers).await;
        let good = FakeRelay::start(Picks::Other, Answers::Well).await;
        let mut sharing = behind(&bad);
        sharing.relays.extend(good.at());
        let sharer = Peer::start(&sharing);
        let state = sharer.until(reserved).await;
        assert_eq!(state.reservations[0].relay, good.id, "{answers:?}");
        bad.until(|seen| seen.reserved > 0).await;
    }
}

#[tokio::test]
async fn a_relay_that_floods_is_refused_and_keeps_nobody_out_who_comes_another_way() {
    let mut bad = FakeRelay::start(Picks::Other, Answers::Well).await;
    let good = FakeRelay::start(Picks::Other, Answers::Well).await;
    let mut sharing = behind(&bad);
    sharing.relays.extend(good.at());
    sharing.reservations = 2;
    let mut sharer = Peer::start(&sharing);
    sharer.until(|state| state.reservations.len() == 2).await;
    for _ in 0..200 {
        bad.offer(sharer.id, PeerId::random());
    }
    let no_room = |answer: &Option<Status>| *answer == Some(Status::ResourceLimitExceeded);
    bad.until(|seen| seen.answers.iter().any(no_room)).await;
    let mut circuits = sharer.circuits().await;
    let through_good = |address: &handover_core::Multiaddr| {
        handover_core::dial::relay_of(address) == Some(good.id)
    };
    circuits.retain(through_good);
    let straight = sharer.at().await;
    for (dial, addresses) in [(1, circuits), (2, straight)] {
        let mut receiver = Peer::start(&config());
        let (mut here, mut there) = connect(&mut receiver, &mut sharer, dial, addresses).await;
        exchange(&mut here, &mut there, b"beside the flood").await;
    }
    let taken = |seen: &crate::fake_relay::Seen| {
        let ok = |answer: &&Option<Status>| **answer == Some(Status::Ok);
        seen.answers.iter().filter(ok).count()
    };
    let seen = bad.until(|seen| seen.answers.len() == 200).await;
    assert!(taken(&seen) < 100, "{}", taken(&seen));
}

#[tokio::test]
async fn a_device_that_starts_again_takes_up_its_place_at_the_relay_that_it_had() {
    let mut relay = FakeRelay::start(Picks::Other, Answers::Well).await;
    let folder = tempfile::tempdir().unwrap();
    let mut first = behind(&relay);
    first.relay_memory = Some(folder.path().join("relays"));
    let mut again = first.clone();
    again.relays.clear();
    again.dht = true;
    again.reachable = Reachable::At(Vec::new());
    let mut hiding = again.clone();
    hiding.direct = false;

    let sharer = Peer::start(&first);
    sharer.until(reserved).await;
    let id = sharer.id;
    sharer.ask(Transport::shutdown).await;
    sharer.ended().await;
    relay
        .until(|seen| seen.connections.get(&id).is_none_or(Vec::is_empty))
        .await;
    let sharer = Peer::start(&again);
    sharer.ask(|transport| transport.announce(POINT)).await;
    let state = sharer.until(reserved).await;
    assert_eq!((sharer.id, state.reservations[0].relay), (id, relay.id));
    assert_eq!(relay.until(|_| true).await.reserved, 2);
    sharer.kill();

    let hidden = Peer::start(&hiding);
    hidden.ask(|transport| transport.announce(POINT)).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(
        !reserved(&hidden.network().await),
        "that would tell who it is"
    );
}
