//! Each finding, from the state that a transport would report.

use std::time::Instant;

use handover_transports::libp2p::{
    ConnectionCounts, Contact, HeldReservation, Outcome, QuicNode, Reason, Served, TestedAddress,
};

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

fn peer(number: u8) -> PeerId {
    let keys = handover_core::Keypair::ed25519_from_bytes([number; 32]).unwrap();
    keys.public().to_peer_id()
}

/// The address of a host on the internet.
fn host(number: u8) -> String {
    format!("203.0.113.{number}")
}

/// A bootstrap node with one address, over TCP.
fn node(number: u8, outcome: Option<Outcome>) -> BootstrapNode {
    BootstrapNode {
        peer: peer(number),
        addresses: vec![(tcp(&host(number), 4001), outcome)],
    }
}

fn contact(number: u8, address: Multiaddr, outcome: Outcome) -> Contact {
    Contact {
        peer: Some(peer(number)),
        address,
        outcome,
    }
}

const SILENT: Outcome = Outcome::Failed(Reason::TimedOut);

/// A home network: the router keeps ports, blocks incoming connections and has no `UPnP`; three relays are reserved.
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
        hints: Vec::new(),
        strangers: false,
        port_mapping: PortMapping::NoRouter,
        reservations: vec![relay(), relay(), relay()],
        refusals: Vec::new(),
        dht_nodes: 30,
        bootstrap_configured: 4,
        bootstrap_connected: 2,
        bootstrap: vec![node(1, Some(Outcome::Connected)), node(2, None)],
        contacts: vec![contact(1, tcp(&host(1), 4001), Outcome::Connected)],
        quic_nodes: Vec::new(),
        served: Served::default(),
        connections: ConnectionCounts::default(),
    }
}

/// The public network, whose DHT answers.
fn facts() -> Facts {
    Facts {
        dht: true,
        relayed_only: false,
        asks: true,
        clock: Clock::judge(1_800_000_000, None),
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
        bootstrap: home().bootstrap,
        obstacle: None,
        names: Names::Off,
        dht: Dht::Answers(Duration::from_secs(1)),
        nat: Nat::PortKept,
        tcp: Tcp::Works,
        udp: Udp::Works,
        reachable: Reach::Nobody,
        hints: Vec::new(),
        port_mapping: Mapping::NoRouter,
        relays: 3,
        refusals: Vec::new(),
        relays_needed: true,
        clock: facts().clock,
        expect: Outlook::Direct,
        undecided: false,
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

/// The home network after these dials, with sightings over TCP only.
fn after(contacts: Vec<Contact>) -> NetworkState {
    NetworkState {
        sightings: vec![seen(tcp(ROUTER, PORT), 3)],
        contacts,
        ..home()
    }
}

#[test]
fn udp_is_blocked_if_a_node_that_speaks_quic_answers_over_tcp_alone() {
    let by_tcp = || contact(1, tcp(&host(1), 4001), Outcome::Connected);
    let by_quic = |number, outcome| contact(number, quic(&host(number), 4001), outcome);
    let unknown = judge(&after(vec![by_tcp()]), &facts());
    assert_eq!(unknown.udp, Udp::Unknown, "it may not speak QUIC");
    let other = vec![by_tcp(), by_quic(2, SILENT)];
    assert_eq!(judge(&after(other), &facts()).udp, Udp::Unknown, "dead");
    let blocked = judge(&after(vec![by_tcp(), by_quic(1, SILENT)]), &facts());
    assert_eq!(blocked.udp, Udp::Blocked);
    assert_eq!(blocked.expect, Outlook::ReachablePeers);
    let works = vec![by_tcp(), by_quic(1, SILENT), by_quic(2, Outcome::Connected)];
    assert_eq!(judge(&after(works), &facts()).udp, Udp::Works);
    let without = NetworkState {
        listening: vec![tcp(LAN, PORT)],
        ..after(vec![by_tcp(), by_quic(1, SILENT)])
    };
    let without = judge(&without, &facts());
    assert_eq!(without.udp, Udp::Off, "that was the user's choice");
    assert_eq!(without.expect, Outlook::Direct);
}

#[test]
fn a_node_that_names_a_quic_address_is_asked_over_udp_once() {
    let by_tcp = contact(1, tcp(&host(1), 4001), Outcome::Connected);
    let names_quic = |number| QuicNode {
        peer: peer(number),
        addresses: vec![quic(&host(number), 4001)],
    };
    let mut network = NetworkState {
        quic_nodes: vec![names_quic(1), names_quic(2)],
        ..after(vec![by_tcp])
    };
    let untried = untried_over_udp(&network);
    assert_eq!(untried, [(peer(1), vec![quic(&host(1), 4001)])]);
    let found = judge(&network, &facts());
    assert!(found.udp == Udp::Unknown && !is_settled(&found));
    let asked = contact(1, quic(&host(1), 4001), SILENT);
    network.contacts.push(asked);
    assert_eq!(untried_over_udp(&network), []);
    let found = judge(&network, &facts());
    assert!(found.udp == Udp::Blocked && is_settled(&found));
}

#[test]
fn where_only_the_ports_of_the_web_get_out_no_direct_transfer_is_promised() {
    let web = |outcome| contact(1, tcp(&host(1), 443), outcome);
    let other = |number, outcome| contact(number, tcp(&host(number), 4001), outcome);
    let of = |contacts: Vec<Contact>| judge(&after(contacts), &facts());
    let connected = Outcome::Connected;
    let found = of(vec![web(connected), other(1, SILENT)]);
    assert_eq!((found.tcp, found.expect), (Tcp::WebOnly, Outlook::Relays));
    let found = of(vec![web(connected), other(2, SILENT), other(3, SILENT)]);
    assert_eq!((found.tcp, found.expect), (Tcp::WebOnly, Outlook::Relays));
    let found = of(vec![web(connected), other(2, SILENT)]);
    assert_eq!(found.tcp, Tcp::Unknown, "that one may be dead");
    let refused = Outcome::Failed(Reason::Silent);
    let found = of(vec![web(connected), other(1, SILENT), other(2, refused)]);
    assert_eq!(found.tcp, Tcp::Works, "it took the connection");
    let found = of(vec![other(1, SILENT), other(2, SILENT)]);
    assert_eq!(found.tcp, Tcp::Unknown, "nothing gets out");
}

/// Over UDP, an unreachable host is not reported as such: the packets are lost.
#[test]
fn without_any_network_udp_that_times_out_is_not_taken_for_a_firewall() {
    let failed = |reason| Some(Outcome::Failed(reason));
    let obstacle = |outcomes: [(Multiaddr, Reason); 2]| {
        let addresses = outcomes.map(|(address, reason)| (address, failed(reason)));
        let both = BootstrapNode {
            peer: peer(1),
            addresses: addresses.into(),
        };
        let network = NetworkState {
            bootstrap: vec![both, node(2, failed(Reason::Unnamed))],
            ..home()
        };
        judge(&network, &facts()).obstacle
    };
    let (first, second) = (host(1), host(2));
    let unreachable = (tcp(&first, 4001), Reason::Unreachable);
    let late = |host: &str| (quic(host, 4001), Reason::TimedOut);
    let found = obstacle([unreachable.clone(), late(&first)]);
    assert_eq!(found, Some(Obstacle::NoNetwork));
    let found = obstacle([unreachable, late(&second)]);
    assert_eq!(found, Some(Obstacle::NoAnswer), "that is another host");
}

#[test]
fn why_no_bootstrap_node_was_reached_is_told_by_how_the_dials_failed() {
    use Reason::{
        Closed, Forbidden, Foreign, Http, Insecure, NoMuxer, NoSecurity, Refused, Silent, TimedOut,
        Unnamed, Unreachable, Unsupported,
    };
    let cases: [(&[Reason], Obstacle); 18] = [
        (&[Forbidden, TimedOut], Obstacle::Portal),
        (&[Http, Closed], Obstacle::Portal),
        (&[Foreign, Foreign], Obstacle::Portal),
        (&[Foreign, TimedOut], Obstacle::Cut),
        (&[NoMuxer], Obstacle::OtherProtocols),
        (&[NoSecurity, TimedOut], Obstacle::OtherProtocols),
        (&[Unsupported, Unnamed], Obstacle::OtherProtocols),
        (&[Unsupported, TimedOut], Obstacle::NoAnswer),
        (&[Closed, Closed], Obstacle::Cut),
        (&[Insecure], Obstacle::Cut),
        (&[Silent, TimedOut], Obstacle::Silence),
        (&[Refused, Refused], Obstacle::Refused),
        (&[Refused, Unnamed], Obstacle::Refused),
        (&[Refused, TimedOut], Obstacle::NoAnswer),
        (&[Unnamed, Unnamed], Obstacle::Names),
        (&[Unnamed, TimedOut], Obstacle::NoAnswer),
        (&[Unnamed, Unreachable], Obstacle::NoNetwork),
        (&[], Obstacle::NoAnswer),
    ];
    for (reasons, obstacle) in cases {
        let failed = |(number, reason): (u8, &Reason)| node(number, Some(Outcome::Failed(*reason)));
        let mut bootstrap: Vec<_> = (1..).zip(reasons).map(failed).collect();
        if bootstrap.is_empty() {
            bootstrap.push(node(1, None));
        }
        let network = NetworkState {
            bootstrap,
            ..home()
        };
        let found = judge(&network, &facts());
        assert_eq!(found.obstacle, Some(obstacle), "{reasons:?}");
        assert_eq!(found.bootstrap_reached(), 0);
    }
    let reached = [Some(Outcome::Failed(Http)), Some(Outcome::Connected)];
    let other = [Some(Outcome::OtherPeer(peer(9))), Some(SILENT)];
    for (outcomes, obstacle) in [(reached, None), (other, Some(Obstacle::OtherNodes))] {
        let network = NetworkState {
            bootstrap: (1..)
                .zip(outcomes)
                .map(|(n, outcome)| node(n, outcome))
                .collect(),
            ..home()
        };
        assert_eq!(judge(&network, &facts()).obstacle, obstacle);
    }
}

#[test]
fn names_that_fail_while_addresses_answer_are_a_finding_of_their_own() {
    let named = |outcome| BootstrapNode {
        peer: peer(7),
        addresses: vec![("/dnsaddr/example.org".parse().unwrap(), outcome)],
    };
    let unnamed = Some(Outcome::Failed(Reason::Unnamed));
    for (outcome, names) in [
        (None, Names::Unknown),
        (unnamed, Names::Fail),
        (Some(SILENT), Names::Work),
        (Some(Outcome::Connected), Names::Work),
    ] {
        let network = NetworkState {
            bootstrap: vec![node(1, Some(Outcome::Connected)), named(outcome)],
            ..home()
        };
        let found = judge(&network, &facts());
        assert_eq!((found.names, found.obstacle), (names, None), "{outcome:?}");
    }
    assert_eq!(judge(&home(), &facts()).names, Names::Off);
}

#[test]
fn a_dht_that_is_known_and_does_not_answer_promises_nothing() {
    let none = Some(LookedUp {
        reached: false,
        took: Duration::from_secs(10),
    });
    for (nodes, looked_up, dht, expect) in [
        (3, none, Dht::Hangs, Outlook::Unknown),
        (0, none, Dht::Silent, Outlook::LocalNetwork),
        (3, None, Dht::Late, Outlook::Unknown),
    ] {
        let network = NetworkState {
            dht_nodes: nodes,
            ..home()
        };
        let facts = Facts {
            looked_up,
            ..facts()
        };
        let found = judge(&network, &facts);
        assert_eq!((found.dht, found.expect), (dht, expect));
    }
}

#[test]
fn a_router_that_nobody_has_told_of_promises_nothing() {
    let found = behind(vec![]);
    assert_eq!((found.nat, found.expect), (Nat::Unknown, Outlook::Unknown));
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
fn what_nodes_say_that_dialled_back_is_told_and_nothing_is_concluded_from_it() {
    let hint = |reached: &[u8], not_reached: &[u8]| Hint {
        address: tcp(ROUTER, PORT),
        reached: reached.iter().copied().map(peer).collect(),
        not_reached: not_reached.iter().copied().map(peer).collect(),
        is_denied: reached.is_empty(),
    };
    let unknown = || NetworkState {
        tested: Vec::new(),
        ..home()
    };
    let without = judge(&unknown(), &facts());
    for hints in [vec![hint(&[1, 2, 3], &[])], vec![hint(&[], &[1, 2, 3])]] {
        let network = NetworkState {
            hints: hints.clone(),
            ..unknown()
        };
        let wanted = Diagnosis {
            hints,
            ..without.clone()
        };
        assert_eq!(judge(&network, &facts()), wanted);
    }
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
            bootstrap: vec![node(1, Some(SILENT))],
            dht_nodes: 0,
            ..home()
        };
        let facts = Facts {
            dht,
            looked_up,
            ..facts()
        };
        let judged = judge(&network, &facts);
        assert_eq!(judged.dht, found);
        assert_eq!(judged.expect, Outlook::LocalNetwork, "{found:?}");
        assert_eq!(is_settled(&judged), settled, "{found:?}");
    }
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
