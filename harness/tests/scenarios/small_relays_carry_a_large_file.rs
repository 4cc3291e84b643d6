use std::time::Duration;

use handover_core::engine::{DownloadId, Event, PathKind};
use handover_core::limits::{GROUP, LEAF, Limits};
use handover_harness::{HostId, Relay, Route, Tree, World, content, relay_peer, small_limits};
use handover_transports::memory::{LinkProfile, Pieces};

use crate::{assert_same, complete};

/// Byte limit of a circuit: with leaves of 256 bytes about what 128 KiB are with leaves of 16 KiB, including overhead.
const CIRCUIT: u64 = 16 << 10;
const RTT: Duration = Duration::from_millis(40);
/// Four round trips precede a link's own handshake: the relay's answer, the two layers of the connection, the stream.
/// Every dial includes one of them.
const SETUP: Duration = Duration::from_millis(120);

fn limits() -> Limits {
    Limits {
        circuits: 12,
        circuits_per_relay: 4,
        relay_at_once: 1 << 30,
        links: 32,
        links_of_one: 16,
        links_in_handshake: 16,
        links_in_handshake_of_one: 16,
        window: 64 * u64::from(GROUP),
        window_total: 64 * u64::from(GROUP),
        ..small_limits()
    }
}

/// Two hosts that can reach each other only through this many relays of this kind.
fn through(limits: Limits, relays: u8, relay: Relay) -> (World, HostId, HostId) {
    let mut world = World::with_limits(31, limits);
    let (alice, bob) = (world.add_host(), world.add_host());
    for host in [alice, bob] {
        world.unlisten(host, &World::address(host));
    }
    let profile = LinkProfile {
        delay: RTT / 2,
        bandwidth: Some(1_000_000),
        pieces: Pieces::Whole,
        window: 64 << 10,
        ..LinkProfile::WAN
    };
    for number in 0..relays {
        let at = world.add_relay(relay);
        let address = format!(
            "/ip4/50.0.0.{}/tcp/4000/p2p/{}/p2p-circuit",
            number + 1,
            relay_peer(number)
        );
        let route = Route::new(PathKind::Relayed, profile).with_setup(SETUP);
        world.listen(alice, address.parse().unwrap(), route.through(at));
    }
    (world, alice, bob)
}

fn tree(bytes: usize) -> Tree {
    Tree::one("f", content(1, bytes))
}

/// Fetches a file of this size. Returns the download and its duration.
fn fetch(world: &mut World, alice: HostId, bob: HostId, bytes: usize) -> (DownloadId, Duration) {
    let (_, ticket) = world.share(alice, tree(bytes));
    let began = world.now();
    let download = world.fetch(bob, &ticket);
    complete(world, bob, download);
    assert_same(world, bob, download, &tree(bytes));
    (download, world.now().since(began))
}

fn limited(bytes: u64) -> Relay {
    Relay {
        bytes: Some(bytes),
        ..Relay::default()
    }
}

#[test]
fn nothing_is_sent_twice_where_the_limit_is_known() {
    for each_way in [false, true] {
        let relay = Relay {
            each_way,
            ..limited(CIRCUIT)
        };
        let (mut world, alice, bob) = through(limits(), 1, relay);
        let bytes = 400_000;
        fetch(&mut world, alice, bob, bytes);
        assert_eq!(world.received(bob), bytes as u64, "each way: {each_way}");
        let lost = |event: &Event| matches!(event, Event::ConnectionLost { .. });
        assert!(!world.events(bob).iter().any(lost));
    }
}

#[test]
fn three_relays_take_a_third_of_the_time_of_one() {
    let bytes = 1_200_000;
    let (mut world, alice, bob) = through(limits(), 1, limited(CIRCUIT));
    let (_, one) = fetch(&mut world, alice, bob, bytes);
    let (mut world, alice, bob) = through(limits(), 3, limited(CIRCUIT));
    let (_, three) = fetch(&mut world, alice, bob, bytes);
    assert!(
        three < one / 2,
        "{three:?} through three, {one:?} through one"
    );
    assert_eq!(world.received(bob), bytes as u64);
    let told = world.events(bob).iter().filter_map(|event| match event {
        Event::Circuits { relays, .. } => Some(*relays),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn of_a_relay_that_does_not_state_its_limit_it_is_learnt_from_two_cuts() {
    let relay = Relay {
        silent: true,
        ..limited(CIRCUIT)
    };
    let (mut world, alice, bob) = through(limits(), 1, relay);
    let bytes = 400_000;
    fetch(&mut world, alice, bob, bytes);
    let again = world.received(bob) - bytes as u64;
    assert!(again <= 2 * CIRCUIT, "{again} bytes came twice");
}

#[test]
fn a_circuit_is_left_before_its_time_is_over() {
    let relay = Relay {
        time: Some(Duration::from_secs(4)),
        ..Relay::default()
    };
    let (mut world, alice, bob) = through(limits(), 1, relay);
    let bytes = 6_000_000;
    let (_, took) = fetch(&mut world, alice, bob, bytes);
    assert!(took > Duration::from_secs(6), "{took:?}");
    assert_eq!(world.received(bob), bytes as u64);
}

/// The bytes over a relay per time are limited, and the download proceeds as fast as that allows.
#[test]
fn a_relay_is_spared_when_it_has_carried_enough() {
    let limits = Limits {
        relay_at_once: 100_000,
        relay_an_hour: 3600 * 20_000,
        ..limits()
    };
    let (mut world, alice, bob) = through(limits.clone(), 1, limited(CIRCUIT));
    let (download, took) = fetch(&mut world, alice, bob, 300_000);
    assert!(took > Duration::from_secs(10), "{took:?}");
    let told = Event::RelaysSpared {
        download,
        an_hour: limits.relay_an_hour,
    };
    let told = format!("{told:?}");
    let events = world.events(bob).iter();
    assert_eq!(
        events.filter(|event| format!("{event:?}") == told).count(),
        1
    );
}

/// Relays limit the circuits of a peer: a download that is refused another circuit continues with those it has.
#[test]
fn a_relay_that_takes_two_circuits_is_asked_for_no_more_for_a_while() {
    let relay = Relay {
        circuits: Some(2),
        ..limited(CIRCUIT)
    };
    let (mut world, alice, bob) = through(limits(), 1, relay);
    let bytes = 400_000;
    fetch(&mut world, alice, bob, bytes);
    assert_eq!(world.received(bob), bytes as u64);
}

#[test]
fn a_direct_path_takes_over_from_all_circuits() {
    let (mut world, alice, bob) = through(limits(), 3, limited(CIRCUIT));
    let (_, ticket) = world.share(alice, tree(1_200_000));
    let download = world.fetch(bob, &ticket);
    world.after(Duration::from_secs(2), move |world| {
        world.listen(alice, World::address(alice), Route::lan());
    });
    complete(&mut world, bob, download);
    assert_same(&world, bob, download, &tree(1_200_000));
    assert_eq!(world.received(bob), 1_200_000);
    let direct = |event: &Event| matches!(event, Event::PathChanged { path, .. } if *path != PathKind::Relayed);
    assert!(world.events(bob).iter().any(direct));
    assert!(world.links_of(bob).len() <= 1);
    assert!(u64::from(LEAF) < CIRCUIT);
}
