//! Attacks by hostile peers and their outcome: each peer is dropped with a reason, all others continue, and nothing
//! grows past its limit, which the world checks. The rows are those of the bad-input catalogue.

mod a_deputy_lies;
mod a_receiver_asks_for_what_it_must_not;
mod a_receiver_floods_or_does_not_read;
mod a_seeder_lies;
mod a_sharer_lies;
mod a_sharer_lies_about_chunks;
mod limits_hold_at_n_and_end_at_one_more;
mod strangers_knock;
mod those_who_are_remembered;

use std::time::Duration;

use handover_core::engine::{DownloadId, DownloadOutcome, Event, FetchOptions};
use handover_harness::{Fetch, HostId, World};

const SECOND: Duration = Duration::from_secs(1);

/// The violations for which a host blamed its peers.
fn blames(world: &World, host: HostId) -> Vec<String> {
    let blamed = world.events(host).iter().filter_map(|event| match event {
        Event::PeerBlamed { violation, .. } => Some(violation.clone()),
        _ => None,
    });
    blamed.collect()
}

/// Seeds only during the download.
fn giving() -> Fetch {
    Fetch {
        options: FetchOptions {
            seed: true,
            ..FetchOptions::default()
        },
        ..Fetch::default()
    }
}

/// Runs an honest download to its end, which must be successful.
fn complete(world: &mut World, host: HostId, download: DownloadId) {
    let outcome = world.run_to_end(host, download);
    let all = matches!(outcome, DownloadOutcome::Completed(summary) if summary.failed == 0);
    assert!(all, "{outcome:?}");
}
