//! Shows what runs of the lab amount to: on a terminal, as a page, as the file that is kept with the code.
//!
//! It knows how results are judged and drawn. How they came about is for others, and so is where they go: everything
//! here takes a [`Matrix`] and gives back text.
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
