//! Each finding, from what a transport would tell.

use std::time::Instant;

use handover_core::PeerId;
use handover_transports::libp2p::{ConnectionCounts, HeldReservation, Served, TestedAddress};

use super::*;

const LAN: &str = "192.168.1.20";
const ROUTER: &str = "198.51.100.7";
const PORT: u16 = 47820;

fn tcp(ip: &str, port: u16) -> Multiaddr {
    let family = if ip.contains(':') { "ip6" } else { "ip4" };
    format!("/{family}/{ip}/tcp/{port}").parse().unwrap()
}

fn quic(ip: &str, port: u16) -> Multiaddr {
    let family = if ip.contains(':') { "ip6" } else { "ip4" };
    format!("/{family}/{ip}/udp/{port}/quic-v1")
        .parse()
        .unwrap()
}

fn seen(address: Multiaddr, by: usize) -> Sighting {
    Sighting { address, by }
}

fn tested(address: Multiaddr, verdict: Verdict) -> TestedAddress {
    TestedAddress { address, verdict }
}

/// At home: the router keeps ports, lets nobody in and has no `UPnP`; three relays are held.
fn home() -> NetworkState {
    let relay = || HeldReservation {
        relay: PeerId::random(),
        since: Instant::now(),
        limit: None,
    };
    NetworkState {
        listening: vec![tcp(LAN, PORT), quic(LAN, PORT), tcp("127.0.0.1", PORT)],
        external: Vec::new(),
        observed: Vec::new(),
        sightings: vec![seen(tcp(ROUTER, PORT), 5), seen(quic(ROUTER, PORT), 5)],
        tested: vec![tested(quic(ROUTER, PORT), Verdict::Unreachable)],
        strangers: false,
        port_mapping: PortMapping::NoRouter,
        reservations: vec![relay(), relay(), relay()],
        dht_nodes: 30,
        bootstrap_configured: 4,
        bootstrap_connected: 2,
        served: Served::default(),
        connections: ConnectionCounts::default(),
    }
}

/// On the public network, whose DHT answers.
fn facts() -> Facts {
    Facts {
        dht: true,
        relayed_only: false,
        asks: true,
        bootstrap_reached: 3,
        looked_up: Some(LookedUp {
            reached: true,
            took: Duration::from_secs(1),
        }),
    }
}

fn behind(sightings: Vec<Sighting>) -> Diagnosis {
    judge(
        &NetworkState {
            sightings,
            ..home()
        },
        &facts(),
    )
}

fn at(listening: &[Multiaddr]) -> (Presence, Presence) {
    let network = NetworkState {
        listening: listening.to_vec(),
        ..home()
    };
    let found = judge(&network, &facts());
    (found.ipv4, found.ipv6)
}

#[test]
fn a_home_has_all_that_direct_transfers_need() {
    let found = judge(&home(), &facts());
    let wanted = Diagnosis {
        ipv4: Presence::Private,
        ipv6: Presence::None,
        bootstrap_reached: 3,
        bootstrap_nodes: 4,
        dht: Dht::Answers(Duration::from_secs(1)),
        nat: Nat::PortKept,
        udp: Udp::Works,
        reachable: Reach::Nobody,
        port_mapping: Mapping::NoRouter,
        relays: 3,
        relays_needed: true,
        expect: Outlook::Direct,
    };
    assert_eq!(found, wanted);
    assert!(is_settled(&found));
}

#[test]
fn an_address_is_public_or_not() {
    use Presence::{Loopback, None, Private, Public};
    assert_eq!(at(&[]), (None, None));
    assert_eq!(at(&[tcp("0.0.0.0", 1)]), (None, None));
    for (ip, is) in [
        ("127.0.0.1", Loopback),
        ("10.0.0.1", Private),
        ("100.64.0.1", Private),
        ("100.127.255.255", Private),
        ("100.128.0.1", Public),
        ("198.51.100.7", Public),
    ] {
        assert_eq!(at(&[tcp(ip, 1)]), (is, None), "{ip}");
    }
    for (ip, is) in [
        ("::1", Loopback),
        ("fe80::1", Private),
        ("fd00::1", Private),
        ("2001:db8::1", Public),
    ] {
        assert_eq!(at(&[quic(ip, 1)]), (None, is), "{ip}");
    }
    assert_eq!(
        at(&[tcp("::1", 1), tcp("2001:db8::1", 1), tcp("fe80::1", 1)]),
        (None, Public),
        "the best counts"
    );
}

#[test]
fn a_router_is_known_by_its_ports() {
    let port = |port, by| seen(quic(ROUTER, port), by);
    assert_eq!(behind(vec![]).nat, Nat::Unknown);
    assert_eq!(behind(vec![port(PORT, 1)]).nat, Nat::PortKept);
    assert_eq!(behind(vec![port(9, 1)]).nat, Nat::Unknown);
    assert_eq!(behind(vec![port(9, 2)]).nat, Nat::OnePort);
    assert_eq!(behind(vec![port(8, 1), port(9, 1)]).nat, Nat::Symmetric);
    assert_eq!(
        behind(vec![port(PORT, 3), seen(quic("198.51.100.8", PORT), 3)]).nat,
        Nat::Symmetric,
        "it has several addresses, and takes another for others"
    );
    assert_eq!(behind(vec![seen(quic(LAN, PORT), 1)]).nat, Nat::None);
}

#[test]
fn the_way_that_is_easier_to_punch_counts() {
    let changing = [8, 9].map(|port| seen(tcp(ROUTER, port), 1));
    let kept = seen(quic(ROUTER, PORT), 2);
    let found = behind([changing.to_vec(), vec![kept]].concat());
    assert_eq!(found.nat, Nat::PortKept);
}

#[test]
fn a_neighbour_says_nothing_of_the_router() {
    let neighbour = seen(tcp(LAN, PORT), 1);
    let outside = [8, 9].map(|port| seen(tcp(ROUTER, port), 1));
    let found = behind([vec![neighbour], outside.to_vec()].concat());
    assert_eq!(found.nat, Nat::Symmetric);
}

#[test]
fn ipv6_says_nothing_of_the_nat_of_ipv4() {
    let here = "2001:db8::1";
    let changing = [8, 9].map(|port| seen(quic(ROUTER, port), 1));
    let network = NetworkState {
        listening: vec![quic(LAN, PORT), quic(here, PORT)],
        sightings: [changing.to_vec(), vec![seen(quic(here, PORT), 9)]].concat(),
        ..home()
    };
    assert_eq!(judge(&network, &facts()).nat, Nat::Symmetric);
    let alone = NetworkState {
        sightings: vec![seen(quic(here, PORT), 9)],
        ..network
    };
    assert_eq!(judge(&alone, &facts()).nat, Nat::None);
}

#[test]
fn udp_is_blocked_if_tcp_alone_gets_through() {
    let over_tcp = |by| behind(vec![seen(tcp(ROUTER, PORT), by)]);
    assert_eq!(over_tcp(TCP_ALONE - 1).udp, Udp::Unknown);
    let blocked = over_tcp(TCP_ALONE);
    assert_eq!(blocked.udp, Udp::Blocked);
    assert_eq!(blocked.expect, Outlook::ReachablePeers);
    let without = NetworkState {
        listening: vec![tcp(LAN, PORT)],
        sightings: vec![seen(tcp(ROUTER, PORT), TCP_ALONE)],
        ..home()
    };
    let without = judge(&without, &facts());
    assert_eq!(without.udp, Udp::Off, "that was the user's choice");
    assert_eq!(without.expect, Outlook::Direct);
}

#[test]
fn who_gets_in_is_told_by_tests_and_by_strangers() {
    let own = quic(ROUTER, PORT);
    let with = |tested: &[TestedAddress], strangers, asks| {
        let network = NetworkState {
            tested: tested.to_vec(),
            strangers,
            ..home()
        };
        judge(&network, &Facts { asks, ..facts() }).reachable
    };
    let reached = tested(own.clone(), Verdict::Reachable);
    let refused = tested(tcp(ROUTER, 9), Verdict::Unreachable);
    let open = tested(own, Verdict::Unknown);
    assert_eq!(with(&[], false, true), Reach::Unknown);
    assert_eq!(
        with(std::slice::from_ref(&open), false, true),
        Reach::Unknown
    );
    assert_eq!(with(&[open, refused.clone()], false, true), Reach::Nobody);
    assert_eq!(
        with(&[refused, reached.clone()], false, true),
        Reach::Acquaintances
    );
    assert_eq!(with(&[reached], true, true), Reach::Strangers);
    assert_eq!(with(&[], false, false), Reach::Assumed);
}

#[test]
fn a_forwarded_port_or_a_stranger_makes_relays_needless() {
    let symmetric = || NetworkState {
        sightings: [8, 9].map(|port| seen(quic(ROUTER, port), 1)).into(),
        external: vec![quic(ROUTER, PORT)],
        reservations: Vec::new(),
        ..home()
    };
    let found = judge(&symmetric(), &facts());
    assert!(found.relays_needed && !is_settled(&found));
    assert_eq!(found.expect, Outlook::ReachablePeers);
    let mapped = NetworkState {
        port_mapping: PortMapping::Mapped(vec![quic(ROUTER, PORT)]),
        ..symmetric()
    };
    let come = NetworkState {
        strangers: true,
        ..symmetric()
    };
    for network in [mapped, come] {
        let found = judge(&network, &facts());
        assert!(!found.relays_needed && is_settled(&found));
        assert_eq!(found.expect, Outlook::Direct);
    }
}

#[test]
fn what_the_router_says_is_passed_on() {
    for (said, found) in [
        (PortMapping::Off, Mapping::Off),
        (PortMapping::Asked, Mapping::Asked),
        (PortMapping::Mapped(vec![tcp(ROUTER, 1)]), Mapping::Mapped),
        (PortMapping::Mapped(vec![]), Mapping::Lost),
        (PortMapping::NoRouter, Mapping::NoRouter),
        (PortMapping::RouterNotPublic, Mapping::RouterNotPublic),
    ] {
        let network = NetworkState {
            port_mapping: said,
            ..home()
        };
        let judged = judge(&network, &facts());
        assert_eq!(judged.port_mapping, found);
        assert_eq!(is_settled(&judged), found != Mapping::Asked);
    }
}

#[test]
fn without_an_answer_there_is_only_the_local_network() {
    let answer = |reached| {
        Some(LookedUp {
            reached,
            took: Duration::from_secs(6),
        })
    };
    for (dht, looked_up, found, settled) in [
        (true, answer(false), Dht::Silent, true),
        (true, None, Dht::Late, false),
        (false, answer(false), Dht::Off, true),
    ] {
        let network = NetworkState {
            bootstrap_connected: 0,
            ..home()
        };
        let facts = Facts {
            dht,
            looked_up,
            bootstrap_reached: 0,
            ..facts()
        };
        let judged = judge(&network, &facts);
        assert_eq!(judged.dht, found);
        assert_eq!(judged.expect, Outlook::LocalNetwork, "{found:?}");
        assert_eq!(is_settled(&judged), settled, "{found:?}");
    }
}

#[test]
fn a_slow_answer_is_still_the_internet() {
    let facts = Facts {
        looked_up: None,
        ..facts()
    };
    let found = judge(&home(), &facts);
    assert_eq!((found.dht, found.expect), (Dht::Late, Outlook::Direct));
    assert!(!is_settled(&found));
}

#[test]
fn who_hides_has_relays_only() {
    let hidden = NetworkState {
        listening: Vec::new(),
        sightings: Vec::new(),
        tested: Vec::new(),
        port_mapping: PortMapping::Off,
        ..home()
    };
    let facts = Facts {
        relayed_only: true,
        ..facts()
    };
    let found = judge(&hidden, &facts);
    assert_eq!(
        (found.reachable, found.expect),
        (Reach::Off, Outlook::Relays)
    );
}

#[test]
fn in_a_network_of_one_s_own_every_address_counts() {
    let network = NetworkState {
        external: vec![tcp(LAN, PORT)],
        sightings: Vec::new(),
        tested: Vec::new(),
        port_mapping: PortMapping::Off,
        reservations: Vec::new(),
        ..home()
    };
    let facts = Facts {
        asks: false,
        ..facts()
    };
    let found = judge(&network, &facts);
    assert!(is_settled(&found) && !found.relays_needed);
    assert_eq!(found.expect, Outlook::Direct);
}
