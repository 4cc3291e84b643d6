//! Checks that every kind of NAT behaves as it claims: gateways in network namespaces, probed from a host behind them.

// Findings are printed for inspection.
#![allow(clippy::print_stderr, unreachable_pub)]

mod support;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::thread;

use handover_nat_lab::nat::{Gateway, Kind, chained};
use handover_nat_lab::probe::judge;
use handover_test_needs::{NFT, Need, Tests, tests};
use support::Topology;

fn main() -> ExitCode {
    let tests = tests![
        every_kind_of_few_rules_is_what_it_claims_to_be,
        every_kind_that_can_send_back_in_does,
        one_behind_the_other_is_what_both_make,
        several_hosts_behind_one_gateway_find_the_same,
    ];
    // The kernel accepts that many rules at once only from root.
    let long = tests![
        the_kind_of_many_rules_is_what_it_claims_to_be,
        rules_may_be_loaded_again,
    ];
    Tests::default()
        .needing(&[Need::Namespaces, NFT], tests)
        .needing(&[Need::Namespaces, Need::Root, NFT], long)
        .run()
}

/// The kinds of nested gateways, the one nearest to the host first, and whether each hairpins.
type Way = Vec<(Kind, bool)>;

/// Maximum number of topologies measured at the same time.
const TOGETHER: usize = 6;

fn hold(ways: &[Way]) {
    for ways in ways.chunks(TOGETHER) {
        thread::scope(|scope| {
            for way in ways {
                scope.spawn(|| hold_one(way));
            }
        });
    }
}

fn hold_one(way: &Way) {
    let name = format!("{way:?}");
    let claims = way.iter().map(|(kind, hairpin)| kind.claims(*hairpin));
    let claim = claims
        .reduce(|inner, outer| chained(&inner, &outer))
        .unwrap();
    let claims = way.iter().map(|(kind, _)| kind.claims_v6());
    let claim_v6 = claims
        .reduce(|inner, outer| chained(&inner, &outer))
        .unwrap();
    let topology = Topology::new(way, 1);
    let [(v4, v6)] = &topology.measure()[..] else {
        unreachable!("one host");
    };
    eprintln!("{name}: {v4:?}");
    assert_eq!(judge(&claim, v4), Ok(()), "{name}, IPv4");
    assert_eq!(judge(&claim_v6, v6), Ok(()), "{name}, IPv6");
}

fn every_kind_of_few_rules_is_what_it_claims_to_be() {
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::SymSeq);
    hold(&kinds.map(|kind| vec![(kind, false)]).collect::<Vec<_>>());
}

fn the_kind_of_many_rules_is_what_it_claims_to_be() {
    hold(&[vec![(Kind::SymSeq, false)]]);
}

fn every_kind_that_can_send_back_in_does() {
    let cones = Kind::ALL.into_iter().filter(|kind| kind.can_hairpin());
    hold(&cones.map(|kind| vec![(kind, true)]).collect::<Vec<_>>());
}

fn one_behind_the_other_is_what_both_make() {
    let of = |inner, outer, hairpin| vec![(inner, false), (outer, hairpin)];
    hold(&[
        of(Kind::Prc, Kind::Prc, false),
        of(Kind::Prc, Kind::Prc, true),
        of(Kind::Prc, Kind::Fc, true),
        of(Kind::FcNp, Kind::Rc, true),
        of(Kind::Fc, Kind::Sym, false),
        of(Kind::Sym, Kind::Fc, true),
        of(Kind::Fw, Kind::Prc, false),
    ]);
}

fn several_hosts_behind_one_gateway_find_the_same() {
    for kind in [Kind::Fc, Kind::Prc] {
        let claim = kind.claims(true);
        for (found, _) in Topology::new(&[(kind, true)], 3).measure() {
            assert_eq!(judge(&claim, &found), Ok(()), "{kind}");
        }
    }
}

fn rules_may_be_loaded_again() {
    let topology = Topology::new(&[(Kind::RcNp, true)], 0);
    let gateway = Gateway {
        kind: Kind::SymSeq,
        hairpin: false,
        maps_ports: false,
        wan: "wan",
        lan: "lan",
        wan_v4: Ipv4Addr::new(11, 0, 0, 9),
    };
    for _ in 0..2 {
        topology.load(&gateway);
    }
}
