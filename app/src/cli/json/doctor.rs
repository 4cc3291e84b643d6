//! What `handover doctor` found.

use handover_core::Multiaddr;
use handover_transports::libp2p::{BootstrapNode, Outcome, Reason};
use serde_json::{Value, json};

use super::millis;
use crate::cli::doctor::{Dht, Diagnosis};

/// All findings.
pub(crate) fn doctor(of: &Diagnosis) -> Value {
    let (dht, took) = match of.dht {
        Dht::Off => ("off", None),
        Dht::Late => ("late", None),
        Dht::Silent => ("silent", None),
        Dht::Hangs => ("hangs", None),
        Dht::Answers(took) => ("answers", Some(millis(took))),
    };
    json!({
        "event": "doctor",
        "expect": of.expect,
        "ipv4": of.ipv4,
        "ipv6": of.ipv6,
        "bootstrap_reached": of.bootstrap_reached(),
        "bootstrap_nodes": of.bootstrap.len(),
        "bootstrap": of.bootstrap.iter().map(node).collect::<Vec<_>>(),
        "obstacle": of.obstacle,
        "names": of.names,
        "dht": dht,
        "dht_millis": took,
        "nat": of.nat,
        "tcp": of.tcp,
        "udp": of.udp,
        "reachable": of.reachable,
        "port_mapping": of.port_mapping,
        "relays": of.relays,
        "relays_needed": of.relays_needed,
        "time": of.clock.now,
        "clock": of.clock.verdict(),
    })
}

fn node(node: &BootstrapNode) -> Value {
    let addresses = node.addresses.iter();
    json!({
        "peer": node.peer.to_string(),
        "reached": node.is_reached(),
        "addresses": addresses.map(|(at, outcome)| address(at, *outcome)).collect::<Vec<_>>(),
    })
}

fn address(address: &Multiaddr, outcome: Option<Outcome>) -> Value {
    let (name, other) = match outcome {
        None => (None, None),
        Some(Outcome::Connected) => (Some("connected"), None),
        Some(Outcome::OtherPeer(peer)) => (Some("other_node"), Some(peer.to_string())),
        Some(Outcome::Failed(reason)) => (Some(name(reason)), None),
    };
    json!({ "address": address.to_string(), "outcome": name, "other": other })
}

fn name(reason: Reason) -> &'static str {
    match reason {
        Reason::Http => "http",
        Reason::Foreign => "not_libp2p",
        Reason::NoMuxer => "no_common_muxer",
        Reason::NoSecurity => "no_common_security",
        Reason::UnknownKey => "unknown_key",
        Reason::Insecure => "handshake",
        Reason::UnknownThere => "not_at_relay",
        Reason::Full => "relay_full",
        Reason::NoRelay => "no_relay",
        Reason::Closed => "closed",
        Reason::Silent => "silent",
        Reason::Refused => "refused",
        Reason::TimedOut => "timed_out",
        Reason::Unreachable => "unreachable",
        Reason::Unsupported => "unsupported",
        Reason::Unnamed => "name",
    }
}
