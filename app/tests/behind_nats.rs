//! Two computers, each behind a NAT of its own, with an internet between them.

// The output shows what was measured.
#![allow(clippy::print_stderr)]

mod support;

use std::process::ExitCode;

use handover_test_needs::{Tests, tests};
use support::Scene;
use support::internet::{Internet, connected};
use support::places;

fn main() -> ExitCode {
    let tests = tests![
        port_restricted_nats_are_punched_whether_they_keep_ports_or_not,
        what_can_not_be_punched_is_relayed,
    ];
    Tests::default().needing(places::NEEDS, tests).run()
}

/// The mapping behaviour of a gateway.
#[derive(Debug, Clone, Copy)]
enum Nat {
    /// Port-restricted cone NAT that keeps the source port if it is free.
    Kept,
    /// The same with a different port, one for all destinations.
    NotKept,
    /// A different port for each destination.
    Symmetric,
}

impl Nat {
    /// The gateway's rules. It drops unsolicited packets, as home routers do.
    fn rules(self) -> String {
        let masquerade = match self {
            Self::Kept => "masquerade",
            Self::NotKept => "meta l4proto { tcp, udp } masquerade to :40000-60000",
            Self::Symmetric => "masquerade fully-random",
        };
        format!(
            "table ip nat {{
                chain outward {{ type nat hook postrouting priority srcnat; oifname wan {masquerade}; }}
                chain inward {{ type filter hook input priority 0; policy drop;
                    iifname {{ lo, lan }} accept; ct state established,related accept; }}
                chain through {{ type filter hook forward priority 0; policy drop;
                    ct state established,related accept; iifname lan oifname wan accept; }}
            }}\n"
        )
    }
}

/// Transfers a file by short code. Returns the paths that the receiver connected over.
fn hand_over(mark: &str, nats: [Nat; 2]) -> Vec<String> {
    let scene = Scene::new();
    let rules = nats.map(Nat::rules);
    let internet = Internet::new(mark, &scene, [&rules[0], &rules[1]]);
    let (got, _sender) = internet.hand_over(&scene, &["--no-port-mapping"], || {});
    let paths = connected(&got);
    let took = &got.event("download_ended")["took"];
    eprintln!("{nats:?}: {paths:?}, {took} ms");
    paths
}

fn port_restricted_nats_are_punched_whether_they_keep_ports_or_not() {
    for (mark, nats) in [
        ("a", [Nat::Kept, Nat::Kept]),
        ("b", [Nat::NotKept, Nat::Kept]),
        ("c", [Nat::NotKept, Nat::NotKept]),
    ] {
        let paths = hand_over(mark, nats);
        assert_eq!(paths, ["relayed", "direct"], "{nats:?}");
    }
}

fn what_can_not_be_punched_is_relayed() {
    let paths = hand_over("d", [Nat::Symmetric, Nat::Symmetric]);
    assert!(paths.iter().all(|path| path == "relayed"), "{paths:?}");
}
