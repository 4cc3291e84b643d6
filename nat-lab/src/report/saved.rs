//! Results as they are saved, and several of them made one.

use thiserror::Error;

use super::cell::{cell_name, is_pair};
use super::words;
use crate::results::{About, Cell, KindResult, Matrix};

/// Why saved results could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The text is something else.
    #[error("these are no results of the lab: {0}")]
    Json(#[from] serde_json::Error),
    /// The text contradicts itself.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Why results do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// There are none.
    #[error("there are no results to merge")]
    Nothing,
    /// They are not about the same thing.
    #[error("the results are of different {what}: {first:?} and {other:?}")]
    About {
        /// What differs.
        what: &'static str,
        /// What it is in the first results.
        first: String,
        /// What it is in those that differ.
        other: String,
    },
    /// A kind of NAT was not the same in all.
    #[error("what {kind} was found to be differs between the results")]
    Kind {
        /// The kind.
        kind: String,
    },
    /// Theory was not the same in all.
    #[error("the results differ in what theory allows {cell}")]
    Best {
        /// The cell.
        cell: String,
    },
}

/// As it is saved: [`read`] takes it back.
#[expect(
    clippy::missing_panics_doc,
    reason = "text, numbers and lists can always be written"
)]
pub fn json(matrix: &Matrix) -> String {
    let mut text = serde_json::to_string_pretty(matrix).expect("text, numbers and lists");
    text.push('\n');
    text
}

/// What [`json`] wrote. Cells of the same pair and carrier are made one.
pub fn read(text: &str) -> Result<Matrix, ReadError> {
    Ok(merge(vec![serde_json::from_str(text)?])?)
}

/// Makes one of the results of several rounds: cells of the same pair and carrier get the runs of all.
///
/// The rounds may have begun at different times (the earliest is kept), but must agree in all else that was measured
/// and in what the NATs were found to be.
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
