//! Known peers, and messages about pairing.

use std::path::Path;

use handover::store::PeerRecord;
use handover_core::{Multiaddr, PeerId};

use super::escape::fit;
use super::units::{ago, count, rate, size};

/// Maximum width of a name, in columns.
const NAME: usize = 60;

/// Message for an empty list.
pub(crate) fn none() -> &'static str {
    "no peers are remembered here"
}

/// A peer: its names and when it was last met, its id, and its record.
pub(crate) fn peer(peer: PeerId, record: &PeerRecord, now: u64, width: usize) -> String {
    let mut names = record.names.iter().map(|name| fit(name, NAME));
    let first = names.next().unwrap_or_else(|| "(no name)".to_string());
    let others: Vec<String> = names.collect();
    let mut head = vec![first];
    if !others.is_empty() {
        head.push(format!("also {}", fit(&others.join(", "), width)));
    }
    if record.pair.is_some() {
        head.push("needs no code".to_string());
    }
    head.push(format!("met {}", ago(record.last_met, now)));
    format!("{}\n    {peer}\n    {}", head.join(" · "), deeds(record))
}

fn deeds(record: &PeerRecord) -> String {
    let relays = record.carried > 0 || record.cuts > 0;
    let mut parts = Vec::new();
    if record.completed > 0 || !relays {
        parts.push(count(record.completed.into(), "transfer", "transfers"));
    }
    if relays {
        parts.push(format!("relayed {}", size(record.carried)));
    }
    match record.cuts {
        0 => {}
        1 => parts.push("cut a connection".to_string()),
        often => parts.push(format!("cut {often} connections")),
    }
    if record.failed > 0 {
        parts.push(format!("{} failed", record.failed));
    }
    if record.delivered > 0 {
        parts.push(format!("{} from there", size(record.delivered)));
        parts.extend(record.speed().map(rate));
    }
    if record.taken > 0 {
        parts.push(format!("{} to there", size(record.taken)));
    }
    if record.bad > 0 {
        parts.push(count(record.bad.into(), "wrong piece", "wrong pieces"));
    }
    match record.violations {
        0 => {}
        1 => parts.push("broke the protocol".to_string()),
        often => parts.push(format!("broke the protocol {often} times")),
    }
    parts.join(" · ")
}

/// Lists peers with the same name by their ids.
pub(crate) fn ids(several: &[&(PeerId, PeerRecord)], now: u64) -> String {
    let line = |(peer, record): &(PeerId, PeerRecord)| {
        format!("    {peer}  met {}", ago(record.last_met, now))
    };
    let lines: Vec<_> = several.iter().map(|one| line(one)).collect();
    lines.join("\n")
}

/// Message after forgetting a peer.
pub(crate) fn forgotten(name: &str, needed_no_code: bool) -> String {
    let name = fit(name, NAME);
    if needed_no_code {
        format!("forgot {name}: from now on it takes a code to hand something over")
    } else {
        format!("forgot {name}")
    }
}

/// Message after forgetting all peers.
pub(crate) fn forgotten_all(peers: u64) -> String {
    format!("forgot {}", count(peers, "peer", "peers"))
}

/// Message after a pairing.
pub(crate) fn remembered(name: &str) -> String {
    let name = fit(name, NAME);
    format!(
        "{name} is remembered: next time `handover send … --to` and `handover get --from` need no code"
    )
}

/// Message if the other side did not agree to a pairing.
pub(crate) fn not_agreed() -> &'static str {
    "nobody is remembered: that takes --remember on both sides"
}

/// Message if a pairing could not be stored.
pub(crate) fn not_remembered(error: &str) -> String {
    format!(
        "! What was agreed on could not be remembered: {}",
        fit(error, 200)
    )
}

/// Message if the store could not be read and was moved to `aside`.
pub(crate) fn begun_anew(aside: &Path) -> String {
    format!(
        "! What was remembered here can't be read, and was begun anew. What was there is in {}",
        fit(&aside.display().to_string(), 200)
    )
}

/// Message for a share with one peer. `us` is what that peer calls this computer.
pub(crate) fn invitation(name: &str, us: &str, loopback: bool, bootstrap: &[Multiaddr]) -> String {
    let (name, us) = (fit(name, NAME), fit(us, NAME));
    let loopback = if loopback { " --loopback" } else { "" };
    let bootstrap = bootstrap.iter().map(|node| format!(" --bootstrap {node}"));
    let bootstrap: String = bootstrap.collect();
    format!(
        "Only {name} can fetch it. There, run:\n\n    handover get --from {us}{loopback}{bootstrap}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handover::store::Pair;
    use handover_core::pair::PairSecret;

    use super::*;

    #[test]
    fn a_peer_is_told_with_its_deeds() {
        let keys = handover_core::Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let id = keys.public().to_peer_id();
        let laptop = PeerRecord {
            names: vec!["laptop".to_string(), "old\u{202e}name".to_string()],
            first_met: 10,
            last_met: 100,
            delivered: 5 << 20,
            delivered_in: Duration::from_secs(2),
            taken: 2048,
            completed: 3,
            failed: 1,
            bad: 2,
            violations: 2,
            carried: 0,
            cuts: 0,
            pair: Some(Pair {
                us: id,
                secret: PairSecret::from_bytes([7; 32]),
            }),
        };
        let stranger = PeerRecord {
            last_met: 100,
            completed: 1,
            ..PeerRecord::default()
        };
        let relay = PeerRecord {
            last_met: 100,
            carried: 300 << 10,
            cuts: 2,
            ..PeerRecord::default()
        };
        let told = [laptop, stranger, relay].map(|record| peer(id, &record, 200_000, 80));
        insta::assert_snapshot!(told.join("\n"));
    }
}
