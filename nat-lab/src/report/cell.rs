//! Judges cells, pairs and a whole matrix.

use std::collections::BTreeMap;

use crate::results::{Best, Carrier, Cell, Matrix, Run};

/// A pair is direct if at least this many runs in a hundred are.
const DIRECT_PERCENT: usize = 95;

/// What runs of one cell, or of one pair, amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Every run completed, and directly in at least 95 % of them if theory allows it.
    Good,
    /// Every run completed, but fewer were direct.
    Short,
    /// Some run did not complete.
    Broken,
    /// Every run completed, and some directly although theory allows a relay alone.
    Better,
    /// There are no runs.
    Unmeasured,
}

/// The middle and the worst of some times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The middle one; of an even number of times, the mean of the two in the middle.
    pub median: u64,
    /// The longest.
    pub worst: u64,
}

impl Spread {
    /// `None` if there are no times.
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

/// How long runs took, from the receiver's begin if nothing else is said; `None` where no run got so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the sharer's begin until it told its short code.
    pub code: Option<Spread>,
    /// From the sharer's begin until it was announced.
    pub announced: Option<Spread>,
    /// Until the first link stood.
    pub connected: Option<Spread>,
    /// Until a direct link stood.
    pub direct: Option<Spread>,
    /// From the relayed link to the direct one.
    pub upgrade: Option<Spread>,
    /// Until some of the file was there.
    pub first_byte: Option<Spread>,
    /// Until the end, of those runs that completed.
    pub took: Option<Spread>,
}

/// What the runs of one cell amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// All in all.
    pub judgement: Judgement,
    /// What theory allows.
    pub best: Best,
    /// How many runs there were.
    pub runs: usize,
    /// In how many of them the file arrived whole.
    pub complete: usize,
    /// In how many of them a direct link stood.
    pub direct: usize,
    /// Direct runs and all runs, by which of the two kinds the sharer was behind.
    pub by_sharer: [(usize, usize); 2],
    /// How long they took.
    pub times: Times,
}

impl Verdict {
    /// Less than what theory allows.
    pub fn falls_short(&self) -> bool {
        matches!(self.judgement, Judgement::Short | Judgement::Broken)
    }

    fn is_direct(&self) -> bool {
        self.runs > 0 && self.complete == self.runs && mostly(self.direct, self.runs)
    }
}

/// What the runs of one cell amount to.
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

/// Direct runs and all runs, of those that `wanted` takes.
fn direct_of(runs: &[Run], wanted: impl Fn(&Run) -> bool) -> (usize, usize) {
    let taken = || runs.iter().filter(|run| wanted(run));
    (
        taken().filter(|run| run.direct.is_some()).count(),
        taken().count(),
    )
}

/// The software of the relays that a cell's runs went through, and in how many runs.
pub fn relays(cell: &Cell) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in cell.runs.iter().flat_map(|run| &run.relays) {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Why the first run that did not complete didn't, if it said so.
pub fn first_error(cell: &Cell) -> Option<&str> {
    let mut failed = cell.runs.iter().filter(|run| !run.complete);
    failed.find_map(|run| run.error.as_deref())
}

/// What a cell is called where reasons are kept, such as `prc × sym, tcp`.
pub fn cell_name(cell: &Cell) -> String {
    let [first, second] = &cell.kinds;
    format!("{first} × {second}, {}", cell.carrier.key())
}

impl Carrier {
    pub(super) const ALL: [Self; 3] = [Self::Tcp, Self::Quic, Self::Both];

    /// As reasons, files and options name it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::Both => "both",
        }
    }

    /// As readers know it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Quic => "QUIC",
            Self::Both => "TCP and QUIC",
        }
    }

    /// As one of several.
    pub(super) fn alone(self) -> &'static str {
        match self {
            Self::Tcp => "TCP alone",
            Self::Quic => "QUIC alone",
            Self::Both => "both",
        }
    }
}

/// What a pair of kinds amounts to, over all that it was measured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairVerdict {
    /// That of its best carrier: a pair is as good as the best way between its two peers.
    pub judgement: Judgement,
    /// What it is fine over: direct in at least 95 % of the runs if theory allows the pair that over any carrier.
    pub over: Vec<Carrier>,
}

impl PairVerdict {
    /// As good as theory allows over one carrier at least.
    pub fn is_fine(&self) -> bool {
        !self.over.is_empty()
    }
}

/// What a pair amounts to; takes the pair's cells, one for each carrier.
///
/// A relay is not enough over one carrier if theory allows a direct path over another.
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

/// Every pair of a matrix, in the order of its cells.
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

/// The cell is of this pair, whichever of the two is named first.
pub(super) fn is_pair(cell: &Cell, [a, b]: [&str; 2]) -> bool {
    let [first, second] = &cell.kinds;
    (first == a && second == b) || (first == b && second == a)
}

/// What one carrier amounts to over all pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Pairs that were measured.
    pub pairs: usize,
    /// Runs.
    pub runs: usize,
    /// Those in which the file arrived whole.
    pub complete: usize,
    /// Runs of pairs that theory allows a direct path.
    pub possible: usize,
    /// Those of them in which one stood.
    pub direct: usize,
    /// How long it took until one stood, wherever one did.
    pub to_direct: Option<Spread>,
}

/// What one carrier amounts to over all pairs.
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
