//! A peer in the test's own process, through the library.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use handover::{Config, UnifiedP2PManager};
use handover_core::engine::{AcceptTerms, DownloadId, DownloadOutcome, Event, OnConflict};
use tokio::sync::mpsc;

/// Configuration of a peer that connects over loopback only.
pub fn config(data_dir: PathBuf) -> Config {
    Config {
        data_dir,
        loopback: true,
        nearby: false,
        ..Config::default()
    }
}

/// Accepts every offer until all of these downloads have completed. Returns how long the longest took.
pub async fn await_all(
    manager: &UnifiedP2PManager,
    events: &mut mpsc::Receiver<Event>,
    mut running: BTreeSet<DownloadId>,
) -> Duration {
    let mut longest = Duration::ZERO;
    while !running.is_empty() {
        match events.recv().await.unwrap() {
            Event::Offer { download, .. } => {
                let terms = AcceptTerms {
                    select: None,
                    on_conflict: OnConflict::Rename,
                    executables: false,
                };
                manager.accept(download, terms).await.unwrap();
            }
            Event::DownloadEnded { download, outcome } => {
                let DownloadOutcome::Completed(summary) = outcome else {
                    panic!("{outcome:?}");
                };
                longest = longest.max(summary.took);
                running.remove(&download);
            }
            _ => {}
        }
    }
    longest
}
