//! The measurements with foreign nodes: a few pairs that every change is checked with, and the full set.

use super::Selection;
use crate::results::Carrier;

/// A matrix of one selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The name of its results.
    pub name: String,
    /// The nodes.
    pub selection: Selection,
    /// Which of the nodes' addresses are given to peers.
    pub addresses: Carrier,
    /// Pairs of places to measure.
    pub pairs: Vec<[String; 2]>,
    /// The transports that peers may connect over, one matrix for each.
    pub over: Vec<Carrier>,
    /// Number of runs of each pair over each of them.
    pub repeats: u32,
    /// Size of each file, in bytes.
    pub bytes: u64,
    /// Rate of each peer's link.
    pub rate: &'static str,
}

fn pairs(named: &[[&str; 2]]) -> Vec<[String; 2]> {
    named.iter().map(|pair| pair.map(str::to_owned)).collect()
}

/// Returns a few significant pairs for each software by itself. Each side is the sharer once.
pub fn smoke() -> Vec<Round> {
    let round = |selection: Selection| Round {
        name: selection.name().into(),
        selection,
        addresses: Carrier::Both,
        pairs: pairs(&[["prc", "prc"], ["sym", "prc"], ["pub", "prc"]]),
        over: vec![Carrier::Both],
        repeats: 2,
        bytes: 1_000_000,
        rate: "10 Mbit/s",
    };
    [Selection::Kubo, Selection::P2pd, Selection::Js]
        .map(round)
        .into()
}

/// Returns the full set: each selection with all relevant pairs, every combination of Go node addresses given to peers
/// with transports that peers use, and a large file between two symmetric NATs.
pub fn whole(repeats: u32) -> Vec<Round> {
    let matter = [
        ["pub", "prc"],
        ["prc", "prc"],
        ["prc-np", "prc-np"],
        ["sym", "fc"],
        ["sym", "prc"],
        ["udp-blocked", "prc"],
        ["one-carrier", "one-carrier"],
    ];
    let base = |selection: Selection| Round {
        name: selection.name().into(),
        selection,
        addresses: Carrier::Both,
        pairs: pairs(&matter),
        over: vec![Carrier::Both],
        repeats,
        bytes: 2_000_000,
        rate: "10 Mbit/s",
    };
    let mut rounds: Vec<Round> = Selection::ALL.map(base).into();
    for selection in [Selection::Kubo, Selection::P2pd] {
        for addresses in [Carrier::Tcp, Carrier::Quic, Carrier::Both] {
            rounds.push(Round {
                name: format!("{}-named-by-{}", selection.name(), addresses.key()),
                addresses,
                pairs: pairs(&[["pub", "pub"], ["pub", "prc"]]),
                over: vec![Carrier::Tcp, Carrier::Quic, Carrier::Both],
                ..base(selection)
            });
        }
    }
    for selection in [
        Selection::Kubo,
        Selection::P2pd,
        Selection::Js,
        Selection::Mixed,
    ] {
        rounds.push(Round {
            name: format!("{}-20-mb", selection.name()),
            pairs: pairs(&[["sym", "sym"]]),
            bytes: 20_000_000,
            rate: "100 Mbit/s",
            ..base(selection)
        });
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_told_apart_and_name_places_that_there_are() {
        let (sites, shared) =
            crate::sites::select(&[], crate::wire::Conditions::default()).unwrap();
        let mut names: Vec<&str> = sites.iter().map(|site| site.name).collect();
        names.extend(shared.iter().map(|(name, ..)| *name));
        for rounds in [smoke(), whole(10)] {
            let mut all: Vec<&str> = rounds.iter().map(|round| round.name.as_str()).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), rounds.len());
            for pair in rounds.iter().flat_map(|round| &round.pairs) {
                assert!(pair.iter().all(|place| names.contains(&place.as_str())));
            }
        }
    }
}
