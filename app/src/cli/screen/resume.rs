//! What `handover resume` shows.

use super::escape::fit;
use super::units::{ago, size};
use crate::cli::resume::Item;

/// Message for an empty list.
pub(crate) fn nothing() -> &'static str {
    "nothing has begun that did not end"
}

/// A download or share that can be continued, on one line.
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

/// The question which one to continue.
pub(crate) fn question(many: usize) -> String {
    format!("go on with which? [1-{many}]")
}

/// Message after discarding an item.
pub(crate) fn discarded() -> &'static str {
    "it is forgotten, and what was kept of it is removed"
}
