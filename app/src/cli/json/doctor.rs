//! The findings of `handover doctor` as JSON.

use handover_core::dial_back::Hint;
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::circuit::Status;
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
        "hints": of.hints.iter().map(hint).collect::<Vec<_>>(),
        "port_mapping": of.port_mapping,
        "relays": of.relays,
        "refusals": of.refusals.iter().map(refusal).collect::<Vec<_>>(),
        "relays_needed": of.relays_needed,
        "time": of.clock.now,
        "clock": of.clock.verdict(),
    })
}

fn hint(hint: &Hint) -> Value {
    let names = |nodes: &[PeerId]| nodes.iter().map(PeerId::to_string).collect::<Vec<_>>();
    json!({
        "address": hint.address.to_string(),
        "reached_by": names(&hint.reached),
        "not_reached_by": names(&hint.not_reached),
        "denied": hint.is_denied,
    })
}

fn refusal((relay, status): &(PeerId, Status)) -> Value {
    json!({ "relay": relay.to_string(), "status": status.name() })
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
        Reason::Forbidden => "private_network",
        Reason::Unsupported => "unsupported",
        Reason::Unnamed => "name",
    }
}
