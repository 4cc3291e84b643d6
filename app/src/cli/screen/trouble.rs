//! Errors: what went wrong, and what to do next.

use super::escape::fit;
use crate::cli::failure::Failure;

/// Columns that a reason may take; it may come from a peer.
const REASON: usize = 600;

/// What went wrong.
pub(crate) fn what(failure: &Failure) -> String {
    format!("✗ {}", fit(&failure.what, REASON))
}

/// What to do next, where that is known.
pub(crate) fn advice(failure: &Failure) -> Option<String> {
    (!failure.advice.is_empty()).then(|| format!("  {}", failure.advice.replace('\n', "\n  ")))
}
