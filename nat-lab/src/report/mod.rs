//! Renders the results of the lab: for a terminal, as an HTML page, and as the file that is kept with the code.
//!
//! This module evaluates and renders results. It neither measures nor writes files: every function takes a [`Matrix`]
//! and returns text.
//!
//! [`Matrix`]: crate::results::Matrix

mod cell;
mod escape;
mod foreign;
mod grid;
mod html;
mod markdown;
mod saved;
mod stock;
mod table;
mod words;

pub use cell::{
    Judgement, PairVerdict, Spread, Times, Totals, Verdict, cell_name, first_error, pair_verdict,
    pairs, relays, totals, verdict,
};
pub use foreign::foreign;
pub use html::html;
pub use markdown::markdown;
pub use saved::{MergeError, ReadError, json, merge, read};
pub use stock::stock;
pub use table::table;
pub use words::findings_in_words;
