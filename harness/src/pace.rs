//! How fast the engine decides.

use std::time::Duration;

use handover_core::engine::DownloadOutcome;

use crate::{DiskProfile, Tree, World, content};

/// What a run of [`engine_events_per_second`]'s scenario amounted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Inputs and outputs of both engines.
    pub events: u64,
    /// What the run took on the simulated clock.
    pub took: Duration,
    /// The run's [`World::trace`].
    pub trace: u64,
}

/// Hands over 16 MiB and 2000 small files between two hosts, the same way each time. Whoever calls it knows how long
/// that takes on a real clock.
pub fn engine_events_per_second() -> Pace {
    let limits = handover_core::limits::Limits::default();
    let mut world = World::with_limits(1, limits);
    let (alice, bob) = (world.add_host(), world.add_host());
    for host in [alice, bob] {
        world.disk_mut(host).profile = DiskProfile::INSTANT;
    }
    let big = Tree::one("big", content(1, 16 << 20));
    let tree = (0..2000).fold(big, |tree, n| {
        tree.file(&format!("small/{n}"), content(n, 100))
    });
    let (_, ticket) = world.share(alice, tree);
    let download = world.fetch(bob, &ticket);
    let outcome = world.run_to_end(bob, download);
    assert!(matches!(outcome, DownloadOutcome::Completed(_)));
    Pace {
        events: world.engine_events(),
        took: world.now().since(handover_core::time::Time::ZERO),
        trace: world.trace(),
    }
}
