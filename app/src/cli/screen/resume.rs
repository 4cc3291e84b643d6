//! What `handover resume` shows.

use super::escape::fit;
use super::units::{ago, size};
use crate::cli::resume::Item;

/// There is nothing.
pub(crate) fn nothing() -> &'static str {
    "nothing has begun that did not end"
}

/// One thing that can go on, on a line.
pub(crate) fn item(number: usize, item: &Item, now: u64, width: usize) -> String {
    let room = width.saturating_sub(50).max(20);
    match item {
        Item::Download(download) => format!(
            "{number}  get   {}  {}  into {}  begun {}",
            fit(&download.name, room),
            size(download.bytes),
            fit(&download.folder, room),
            ago(download.begun.at, now),
        ),
        Item::Share(_, share) => format!(
            "{number}  send  {}  begun {}",
            fit(&share.name, room),
            ago(share.begun.at, now),
        ),
    }
}

/// Asks which.
pub(crate) fn question(many: usize) -> String {
    format!("go on with which? [1-{many}]")
}

/// It is forgotten.
pub(crate) fn discarded() -> &'static str {
    "it is forgotten, and what was kept of it is removed"
}
