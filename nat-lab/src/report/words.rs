//! Findings, times and counts as text.

use std::fmt::Write as _;

use super::cell::{self, Judgement, Spread, Times, Totals, Verdict};
use crate::probe::{Behaviour, Depends, Findings, Ports};
use crate::results::{Best, Cell, KindResult, Matrix, World};

/// Describes the behaviour of a NAT in the terms of RFC 4787. TCP is mentioned only if it differs from UDP.
pub fn findings_in_words(findings: &Findings) -> String {
    let mut words = match (findings.udp, findings.tcp) {
        (None, None) => return "nothing gets out".to_owned(),
        (None, Some(tcp)) => format!("UDP does not get out; TCP: {}", behaviour(tcp)),
        (Some(udp), None) => format!("{}; TCP does not get out", behaviour(udp)),
        (Some(udp), Some(tcp)) if udp == tcp => behaviour(udp),
        (Some(udp), Some(tcp)) => format!("{}; TCP: {}", behaviour(udp), behaviour(tcp)),
    };
    let translated = |found: Option<Behaviour>| found.is_some_and(|found| found.translated);
    if translated(findings.udp) || translated(findings.tcp) {
        words += if findings.hairpin {
            "; hairpinning"
        } else {
            "; no hairpinning"
        };
    }
    words
}

fn behaviour(found: Behaviour) -> String {
    let filtering = match found.filtering {
        None => "no filtering".to_owned(),
        Some(by) => format!("{} filtering", depends(by)),
    };
    if !found.translated {
        return format!("no translation, {filtering}");
    }
    let ports = match found.ports {
        Ports::Kept => "ports kept",
        Ports::Sequential => "ports one after the other",
        Ports::Other => "ports not kept",
    };
    format!("{} mapping, {filtering}, {ports}", depends(found.mapping))
}

fn depends(on: Depends) -> &'static str {
    match on {
        Depends::EndpointIndependent => "endpoint-independent",
        Depends::Address => "address-dependent",
        Depends::AddressAndPort => "address and port-dependent",
    }
}

/// Describes the findings for a kind over IPv4 and IPv6.
pub(super) fn kind_in_words(kind: &KindResult) -> String {
    match (&kind.v4, &kind.v6) {
        (None, None) => "not probed".to_owned(),
        (Some(v4), None) => findings_in_words(v4),
        (None, Some(v6)) => format!("IPv6: {}", findings_in_words(v6)),
        (Some(v4), Some(v6)) => {
            format!("{}. IPv6: {}", findings_in_words(v4), findings_in_words(v6))
        }
    }
}

/// Formats a time, such as `309 ms`, `1.2 s` or `15 s`.
pub(super) fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} s", ms / 1_000),
    }
}

/// Formats a percentage with up to one decimal, rounded down, so that `100 %` means all.
pub(super) fn percent(part: usize, whole: usize) -> String {
    match (part * 1_000).checked_div(whole) {
        None => "–".to_owned(),
        Some(tenths) if tenths.is_multiple_of(10) => format!("{} %", tenths / 10),
        Some(tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

/// Describes a verdict in a few words.
pub(super) fn judgement(verdict: &Verdict) -> &'static str {
    match (verdict.judgement, verdict.best) {
        (Judgement::Good, Best::Direct) => "direct",
        (Judgement::Good, Best::Relay) => "relayed, as theory has it",
        (Judgement::Short, _) => "falls short",
        (Judgement::Broken, _) => "does not complete",
        (Judgement::Better, _) => "better than theory",
        (Judgement::Unmeasured, _) => "not measured",
    }
}

/// Returns the numbers of direct runs, in all and for each side as the sharer, and of complete runs.
pub(super) fn counts(cell: &Cell, verdict: &Verdict) -> String {
    let mut words = format!("direct {}/{}", verdict.direct, verdict.runs);
    let [first, second] = &cell.kinds;
    let [by_first, by_second] = verdict.by_sharer;
    if first != second && verdict.direct > 0 {
        let _ = write!(
            words,
            " ({first} shares: {}/{}, {second} shares: {}/{})",
            by_first.0, by_first.1, by_second.0, by_second.1,
        );
    }
    let _ = write!(words, ", complete {}/{}", verdict.complete, verdict.runs);
    words
}

/// Returns the named times of a cell's runs. Times that no run reached are left out.
pub(super) fn times(times: &Times) -> Vec<String> {
    let named = [
        ("short code", times.code),
        ("announced", times.announced),
        ("first link", times.connected),
        ("direct link", times.direct),
        ("relayed to direct", times.upgrade),
        ("first byte", times.first_byte),
        ("whole transfer", times.took),
    ];
    let words = |(name, spread): (&str, Option<Spread>)| {
        let Spread { median, worst } = spread?;
        Some(format!(
            "{name}: {}, at worst {}",
            time(median),
            time(worst)
        ))
    };
    named.into_iter().filter_map(words).collect()
}

/// Returns the software of the relays that a cell's runs used, each with the number of runs.
pub(super) fn relays(cell: &Cell) -> String {
    let counts = cell::relays(cell).into_iter();
    let words = counts.map(|(name, runs)| format!("{name} {runs}"));
    words.collect::<Vec<_>>().join(", ")
}

/// Describes the nodes that peers bootstrapped from, in one line.
pub(super) fn world(world: &World) -> String {
    let nodes = world.nodes.iter().map(|node| node.name());
    format!(
        "{} ({}), by their {} addresses",
        world.selection.about(),
        nodes.collect::<Vec<_>>().join(", "),
        world.addresses.title()
    )
}

/// Returns a sentence with the number of pairs that are as good as theory allows.
pub(super) fn fine_pairs(matrix: &Matrix) -> String {
    let mut pairs = cell::pairs(matrix);
    pairs.retain(|(_, pair)| pair.judgement != Judgement::Unmeasured);
    let fine = pairs.iter().filter(|(_, pair)| pair.is_fine()).count();
    format!(
        "{fine} of {} pairs are as good as theory allows: direct in at least 95 % of the runs \
         over TCP, QUIC or both, or relayed where no direct path is possible.",
        pairs.len(),
    )
}

/// Describes the result of a carrier, in one line.
pub(super) fn totals(totals: &Totals) -> String {
    let mut words = format!(
        "{} pairs, {} runs: {} complete, {} direct where possible",
        totals.pairs,
        totals.runs,
        percent(totals.complete, totals.runs),
        percent(totals.direct, totals.possible),
    );
    if let Some(direct) = totals.to_direct {
        let _ = write!(words, ", median {} to direct", time(direct.median));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{percent, time};

    #[test]
    fn times_read_well() {
        let all = [0, 309, 999, 1_000, 1_250, 9_999, 10_000, 15_400].map(time);
        assert_eq!(
            all.join(", "),
            "0 ms, 309 ms, 999 ms, 1.0 s, 1.2 s, 9.9 s, 10 s, 15 s"
        );
    }

    #[test]
    fn not_quite_all_is_not_all() {
        assert_eq!(percent(9_999, 10_000), "99.9 %");
        assert_eq!(percent(10, 10), "100 %");
        assert_eq!(percent(0, 0), "–");
    }
}
