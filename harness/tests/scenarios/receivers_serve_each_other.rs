use std::time::Duration;

use handover_core::code::Ticket;
use handover_core::engine::{DownloadId, DownloadOutcome, Event, FetchOptions};
use handover_harness::{Fetch, HostId, Tree, World, content};

use crate::{SECOND, assert_same, complete, count};

/// Bytes a second of the sharer's line.
const SLOW: u64 = 20_000;

fn tree() -> Tree {
    Tree::new()
        .file("large", content(1, 400_000))
        .file("middle", content(2, 60_000))
        .file("nothing", "")
        .file("small", content(3, 77))
}

fn seeding() -> Fetch {
    Fetch {
        options: FetchOptions {
            seed: true,
            seed_for: Some(Duration::from_mins(10)),
            ..FetchOptions::default()
        },
        ..Fetch::default()
    }
}

/// A world with a sharer whose line is slow, and so many receivers, all of whom fetch.
fn crowd(seed: u64, receivers: usize, fetch: &Fetch) -> Crowd {
    let mut world = World::new(seed);
    let alice = world.add_host();
    world.limit_uplink(alice, SLOW);
    let (_, ticket) = world.share(alice, tree());
    let downloads = (0..receivers)
        .map(|_| {
            let host = world.add_host();
            (host, world.fetch_with(host, &ticket, fetch.clone()))
        })
        .collect();
    Crowd {
        world,
        alice,
        ticket,
        downloads,
    }
}

struct Crowd {
    world: World,
    alice: HostId,
    ticket: Ticket,
    downloads: Vec<(HostId, DownloadId)>,
}

fn has_all(world: &World, host: HostId) -> bool {
    let here = |event: &Event| {
        matches!(
            event,
            Event::Seeding { .. }
                | Event::DownloadEnded {
                    outcome: DownloadOutcome::Completed(_),
                    ..
                }
        )
    };
    count(world, host, here) > 0
}

impl Crowd {
    /// Lets time pass until all have all of it; how long that took.
    fn run(&mut self) -> Duration {
        let began = self.world.now();
        let downloads = self.downloads.clone();
        let all = |world: &World| downloads.iter().all(|(host, _)| has_all(world, *host));
        let done = self.world.run_until(all, Duration::from_mins(10));
        for (host, download) in &self.downloads {
            assert!(
                done,
                "{:#?}",
                self.world
                    .events(*host)
                    .iter()
                    .rev()
                    .take(4)
                    .collect::<Vec<_>>()
            );
            assert_same(&self.world, *host, *download, &tree());
        }
        self.world.now().since(began)
    }
}

#[test]
fn two_receivers_spare_the_sharer() {
    let mut crowd = crowd(700, 2, &seeding());
    crowd.run();
    let uploaded = crowd.world.uploaded(crowd.alice);
    assert!(uploaded < tree().size() * 3 / 2, "{uploaded} bytes");
    for (host, download) in crowd.downloads {
        let served = crowd.world.uploaded(host);
        assert!(served > tree().size() / 4, "{served} bytes");
        let joined = |event: &Event| matches!(event, Event::SourceJoined { .. });
        assert!(count(&crowd.world, host, joined) > 0);
        let _ = (download, &crowd.ticket, SECOND, complete);
    }
}
