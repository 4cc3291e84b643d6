//! Evaluates cells, pairs and a whole matrix.

use std::collections::BTreeMap;

use crate::results::{Best, Carrier, Cell, Matrix, Run};

/// Minimum percentage of direct runs for a pair to count as direct.
const DIRECT_PERCENT: usize = 95;

/// The overall result of one cell, or of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Every run completed, and if theory allows it, at least 95 % of them directly.
    Good,
    /// Every run completed, but too few were direct.
    Short,
    /// At least one run did not complete.
    Broken,
    /// Every run completed, and some were direct although theory allows only a relay.
    Better,
    /// There are no runs.
    Unmeasured,
}

/// The median and the maximum of some times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The median. For an even number of times, the mean of the two in the middle.
    pub median: u64,
    /// The maximum.
    pub worst: u64,
}

impl Spread {
    /// Returns `None` if there are no times.
    pub(super) fn of(times: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut times: Vec<u64> = times.into_iter().collect();
        times.sort_unstable();
        let worst = *times.last()?;
        let above = *times.get(times.len() / 2)?;
        let below = *times.get((times.len() - 1) / 2)?;
        Some(Self {
            median: below.midpoint(above),
            worst,
        })
    }
}

/// Times of runs, from the receiver's start unless stated otherwise. `None` if no run got that far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the sharer's start to its short code.
    pub code: Option<Spread>,
    /// From the sharer's start until it was announced.
    pub announced: Option<Spread>,
    /// To the first link.
    pub connected: Option<Spread>,
    /// To the first direct link.
    pub direct: Option<Spread>,
    /// From the relayed link to the direct one.
    pub upgrade: Option<Spread>,
    /// Until the first bytes of the file arrived.
    pub first_byte: Option<Spread>,
    /// To the end, for runs that completed.
    pub took: Option<Spread>,
}

/// The result of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The overall result.
    pub judgement: Judgement,
    /// The best path that theory allows.
    pub best: Best,
    /// Number of runs.
    pub runs: usize,
    /// Number of runs in which the complete file arrived.
    pub complete: usize,
    /// Number of runs with a direct link.
    pub direct: usize,
    /// Numbers of direct runs and of all runs, for the sharer behind the first and behind the second kind.
    pub by_sharer: [(usize, usize); 2],
    /// The times.
    pub times: Times,
}

impl Verdict {
    /// True if the result is worse than theory allows.
    pub fn falls_short(&self) -> bool {
        matches!(self.judgement, Judgement::Short | Judgement::Broken)
    }

    fn is_direct(&self) -> bool {
        self.runs > 0 && self.complete == self.runs && mostly(self.direct, self.runs)
    }
}

/// Evaluates the runs of one cell.
pub fn verdict(cell: &Cell) -> Verdict {
    let runs = cell.runs.len();
    let complete = cell.runs.iter().filter(|run| run.complete).count();
    let direct = direct_of(&cell.runs, |_| true).0;
    Verdict {
        judgement: judge(cell.best, runs, complete, direct),
        best: cell.best,
        runs,
        complete,
        direct,
        by_sharer: [0, 1].map(|side| direct_of(&cell.runs, |run| run.sharer == side)),
        times: Times {
            code: Spread::of(cell.runs.iter().filter_map(|run| run.code)),
            announced: Spread::of(cell.runs.iter().filter_map(|run| run.announced)),
            first_byte: Spread::of(cell.runs.iter().filter_map(|run| run.first_byte)),
            connected: Spread::of(cell.runs.iter().filter_map(|run| run.connected)),
            direct: Spread::of(cell.runs.iter().filter_map(|run| run.direct)),
            upgrade: Spread::of(cell.runs.iter().filter_map(|run| run.upgrade)),
            took: Spread::of(
                cell.runs
                    .iter()
                    .filter(|run| run.complete)
                    .map(|run| run.took),
            ),
        },
    }
}

fn judge(best: Best, runs: usize, complete: usize, direct: usize) -> Judgement {
    match best {
        _ if runs == 0 => Judgement::Unmeasured,
        _ if complete < runs => Judgement::Broken,
        Best::Direct if mostly(direct, runs) => Judgement::Good,
        Best::Direct => Judgement::Short,
        Best::Relay if direct > 0 => Judgement::Better,
        Best::Relay => Judgement::Good,
    }
}

fn mostly(direct: usize, runs: usize) -> bool {
    direct * 100 >= runs * DIRECT_PERCENT
}

/// Returns the numbers of direct runs and of all runs, among those that `wanted` accepts.
fn direct_of(runs: &[Run], wanted: impl Fn(&Run) -> bool) -> (usize, usize) {
    let taken = || runs.iter().filter(|run| wanted(run));
    (
        taken().filter(|run| run.direct.is_some()).count(),
        taken().count(),
    )
}

/// Returns the software of the relays that a cell's runs used, and the number of runs for each.
pub fn relays(cell: &Cell) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in cell.runs.iter().flat_map(|run| &run.relays) {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Returns the first error among the runs that did not complete.
pub fn first_error(cell: &Cell) -> Option<&str> {
    let mut failed = cell.runs.iter().filter(|run| !run.complete);
    failed.find_map(|run| run.error.as_deref())
}

/// Returns the name of a cell in the list of reasons, such as `prc × sym, tcp`.
pub fn cell_name(cell: &Cell) -> String {
    let [first, second] = &cell.kinds;
    format!("{first} × {second}, {}", cell.carrier.key())
}

impl Carrier {
    pub(super) const ALL: [Self; 3] = [Self::Tcp, Self::Quic, Self::Both];

    /// Returns the name used in reasons, files and options.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::Both => "both",
        }
    }

    /// Returns the name for headings.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Quic => "QUIC",
            Self::Both => "TCP and QUIC",
        }
    }

    /// Returns the name for a list of alternatives.
    pub(super) fn alone(self) -> &'static str {
        match self {
            Self::Tcp => "TCP alone",
            Self::Quic => "QUIC alone",
            Self::Both => "both",
        }
    }
}

/// The result of a pair of kinds over all carriers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairVerdict {
    /// The result of the best carrier: a pair is as good as the best path between its two peers.
    pub judgement: Judgement,
    /// The carriers over which it is as good as possible: if theory allows the pair a direct path over any carrier,
    /// direct in at least 95 % of the runs.
    pub over: Vec<Carrier>,
}

impl PairVerdict {
    /// True if the pair is as good as theory allows over at least one carrier.
    pub fn is_fine(&self) -> bool {
        !self.over.is_empty()
    }
}

/// Evaluates a pair from its cells, one for each carrier.
///
/// A relay over one carrier is not enough if theory allows a direct path over another.
pub fn pair_verdict<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> PairVerdict {
    let cells: Vec<_> = cells
        .into_iter()
        .map(|cell| (cell.carrier, verdict(cell)))
        .collect();
    let possible = cells.iter().any(|(_, cell)| cell.best == Best::Direct);
    let fine = |cell: &Verdict| match cell.judgement {
        Judgement::Good | Judgement::Better => !possible || cell.is_direct(),
        Judgement::Short | Judgement::Broken | Judgement::Unmeasured => false,
    };
    let fine_cells = cells.iter().filter(|(_, cell)| fine(cell));
    let over: Vec<Carrier> = fine_cells.map(|(carrier, _)| *carrier).collect();
    let is = |wanted: Judgement| cells.iter().any(|(_, cell)| cell.judgement == wanted);
    let judgement = if !over.is_empty() {
        let better = !possible && is(Judgement::Better);
        if better {
            Judgement::Better
        } else {
            Judgement::Good
        }
    } else if is(Judgement::Good) || is(Judgement::Better) || is(Judgement::Short) {
        Judgement::Short
    } else if is(Judgement::Broken) {
        Judgement::Broken
    } else {
        Judgement::Unmeasured
    };
    PairVerdict { judgement, over }
}

/// Returns every pair of a matrix, in the order of its cells.
pub fn pairs(matrix: &Matrix) -> Vec<([&str; 2], PairVerdict)> {
    let mut seen: Vec<[&str; 2]> = Vec::new();
    for cell in &matrix.cells {
        if !seen.iter().any(|pair| is_pair(cell, *pair)) {
            seen.push([&cell.kinds[0], &cell.kinds[1]]);
        }
    }
    let verdict = |pair| pair_verdict(matrix.cells.iter().filter(|cell| is_pair(cell, pair)));
    seen.into_iter().map(|pair| (pair, verdict(pair))).collect()
}

/// True if the cell is of this pair, in either order.
pub(super) fn is_pair(cell: &Cell, [a, b]: [&str; 2]) -> bool {
    let [first, second] = &cell.kinds;
    (first == a && second == b) || (first == b && second == a)
}

/// The result of one carrier over all pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Number of pairs that were measured.
    pub pairs: usize,
    /// Number of runs.
    pub runs: usize,
    /// Number of runs in which the complete file arrived.
    pub complete: usize,
    /// Number of runs of pairs that theory allows a direct path.
    pub possible: usize,
    /// Number of those runs that had a direct link.
    pub direct: usize,
    /// Time to the first direct link, over all runs that had one.
    pub to_direct: Option<Spread>,
}

/// Evaluates one carrier over all pairs.
pub fn totals(matrix: &Matrix, carrier: Carrier) -> Totals {
    let cells = || {
        let measured = |cell: &&Cell| cell.carrier == carrier && !cell.runs.is_empty();
        matrix.cells.iter().filter(measured)
    };
    let runs = || cells().flat_map(|cell| &cell.runs);
    let possible = || {
        cells()
            .filter(|cell| cell.best == Best::Direct)
            .flat_map(|cell| &cell.runs)
    };
    Totals {
        pairs: cells().count(),
        runs: runs().count(),
        complete: runs().filter(|run| run.complete).count(),
        possible: possible().count(),
        direct: possible().filter(|run| run.direct.is_some()).count(),
        to_direct: Spread::of(runs().filter_map(|run| run.direct)),
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    fn median_and_worst(times: &[u64]) -> Option<(u64, u64)> {
        Spread::of(times.iter().copied()).map(|spread| (spread.median, spread.worst))
    }

    #[test]
    fn medians_of_odd_and_even_counts_and_of_none() {
        assert_eq!(median_and_worst(&[]), None);
        assert_eq!(median_and_worst(&[7]), Some((7, 7)));
        assert_eq!(median_and_worst(&[9, 1, 5]), Some((5, 9)));
        assert_eq!(median_and_worst(&[8, 2, 100, 4]), Some((6, 100)));
        assert_eq!(
            median_and_worst(&[u64::MAX, u64::MAX]),
            Some((u64::MAX, u64::MAX))
        );
    }
}
