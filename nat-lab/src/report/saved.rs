//! Reads, writes and merges saved results.

use thiserror::Error;

use super::cell::{cell_name, is_pair};
use super::words;
use crate::results::{About, Cell, KindResult, Matrix};

/// Why saved results could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The text is not a saved matrix.
    #[error("these are no results of the lab: {0}")]
    Json(#[from] serde_json::Error),
    /// The results contradict each other.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Why results can't be merged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// No results were given.
    #[error("there are no results to merge")]
    Nothing,
    /// They were measured under different conditions.
    #[error("the results are of different {what}: {first:?} and {other:?}")]
    About {
        /// What differs.
        what: &'static str,
        /// The value in the first results.
        first: String,
        /// The value in the results that differ.
        other: String,
    },
    /// The findings for a kind of NAT differ.
    #[error("what {kind} was found to be differs between the results")]
    Kind {
        /// The kind.
        kind: String,
    },
    /// The best path that theory allows differs.
    #[error("the results differ in what theory allows {cell}")]
    Best {
        /// The cell.
        cell: String,
    },
}

/// Serialises a matrix as [`read`] expects it.
#[expect(
    clippy::missing_panics_doc,
    reason = "text, numbers and lists can always be written"
)]
pub fn json(matrix: &Matrix) -> String {
    let mut text = serde_json::to_string_pretty(matrix).expect("text, numbers and lists");
    text.push('\n');
    text
}

/// Reads the output of [`json`]. Cells of the same pair and carrier are merged.
pub fn read(text: &str) -> Result<Matrix, ReadError> {
    Ok(merge(vec![serde_json::from_str(text)?])?)
}

/// Merges the results of several rounds: a cell gets the runs of all cells of the same pair and carrier.
///
/// The rounds may have begun at different times (the earliest is kept), but must agree in everything else that was
/// measured and in the findings for each NAT.
pub fn merge(matrices: Vec<Matrix>) -> Result<Matrix, MergeError> {
    let mut all: Option<Matrix> = None;
    for matrix in matrices {
        let merged = all.get_or_insert_with(|| Matrix {
            about: matrix.about.clone(),
            kinds: Vec::new(),
            cells: Vec::new(),
        });
        same_about(&merged.about, &matrix.about)?;
        if matrix.about.date < merged.about.date {
            merged.about.date = matrix.about.date;
        }
        for kind in matrix.kinds {
            add_kind(&mut merged.kinds, kind)?;
        }
        for cell in matrix.cells {
            add_cell(&mut merged.cells, cell)?;
        }
    }
    all.ok_or(MergeError::Nothing)
}

fn same_about(first: &About, other: &About) -> Result<(), MergeError> {
    let bytes = [first, other].map(|about| about.bytes.to_string());
    let [first_bytes, other_bytes] = &bytes;
    let nodes =
        [first, other].map(|about| about.world.as_ref().map(words::world).unwrap_or_default());
    let [first_nodes, other_nodes] = &nodes;
    for (what, first, other) in [
        ("commits", &first.commit, &other.commit),
        ("machines", &first.machine, &other.machine),
        ("conditions", &first.conditions, &other.conditions),
        ("sizes", first_bytes, other_bytes),
        ("nodes", first_nodes, other_nodes),
    ] {
        if first != other {
            let (first, other) = (first.clone(), other.clone());
            return Err(MergeError::About { what, first, other });
        }
    }
    Ok(())
}

fn add_kind(kinds: &mut Vec<KindResult>, new: KindResult) -> Result<(), MergeError> {
    let Some(known) = kinds.iter_mut().find(|known| known.kind == new.kind) else {
        kinds.push(new);
        return Ok(());
    };
    for (known, found) in [(&mut known.v4, new.v4), (&mut known.v6, new.v6)] {
        match (&known, found) {
            (Some(known), Some(found)) if *known != found => {
                return Err(MergeError::Kind { kind: new.kind });
            }
            (None, found) => *known = found,
            _ => {}
        }
    }
    Ok(())
}

fn add_cell(cells: &mut Vec<Cell>, mut new: Cell) -> Result<(), MergeError> {
    let [first, second] = &new.kinds;
    let same = |known: &&mut Cell| known.carrier == new.carrier && is_pair(known, [first, second]);
    let Some(known) = cells.iter_mut().find(same) else {
        cells.push(new);
        return Ok(());
    };
    if known.best != new.best {
        return Err(MergeError::Best {
            cell: cell_name(known),
        });
    }
    if known.kinds != new.kinds {
        for run in &mut new.runs {
            run.sharer = 1_u8.saturating_sub(run.sharer);
        }
    }
    known.runs.append(&mut new.runs);
    Ok(())
}
