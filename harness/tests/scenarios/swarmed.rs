//! The content that receivers serve each other in several scenarios, and the options for seeding.

use std::time::Duration;

use handover_core::engine::FetchOptions;
use handover_harness::{Fetch, Tree, content};

pub(crate) fn tree() -> Tree {
    Tree::new()
        .file("large", content(1, 400_000))
        .file("middle", content(2, 60_000))
        .file("nothing", "")
        .file("small", content(3, 77))
}

/// Seeds during the download, and for this time afterwards.
pub(crate) fn seeding_for(time: Duration) -> Fetch {
    Fetch {
        options: FetchOptions {
            seed: true,
            seed_for: Some(time),
            ..FetchOptions::default()
        },
        ..Fetch::default()
    }
}
