use std::time::Duration;

use handover_core::engine::{Command, DownloadId, Event, Limited, Priority, ShareId, TransferId};
use handover_core::limits::Limits;
use handover_harness::{HostId, Tree, World, content, small_limits};

use crate::{SECOND, assert_same, complete, pair};

/// One sharer and one receiver, with a number of transfers of two megabytes between them.
struct Scene {
    world: World,
    alice: HostId,
    bob: HostId,
    shares: Vec<ShareId>,
    downloads: Vec<DownloadId>,
}

impl Scene {
    fn new(seed: u64, transfers: u64) -> Self {
        // All of them start at once, from one address.
        let limits = Limits {
            links_in_handshake_of_one: 4,
            ..small_limits()
        };
        let mut world = World::with_limits(seed, limits);
        let (alice, bob) = (world.add_host(), world.add_host());
        let mut scene = Self {
            world,
            alice,
            bob,
            shares: Vec::new(),
            downloads: Vec::new(),
        };
        for mark in 0..transfers {
            let (share, _) = scene.world.share(alice, tree(mark));
            scene.shares.push(share);
        }
        scene
    }

    /// Fetches all shares.
    fn begin(&mut self) {
        for share in self.shares.clone() {
            let opened = self
                .world
                .events(self.alice)
                .iter()
                .find_map(|event| match event {
                    Event::ShareOpen {
                        share: id, ticket, ..
                    } if *id == share => Some(ticket.clone()),
                    _ => None,
                });
            let download = self.world.fetch(self.bob, &opened.expect("it is open"));
            self.downloads.push(download);
        }
    }

    fn limit(&mut self, limited: Limited, rate: impl Into<Option<u64>>) {
        let host = match limited {
            Limited::Up | Limited::One(TransferId::Share(_)) => self.alice,
            Limited::Down | Limited::One(TransferId::Download(_)) => self.bob,
        };
        let rate = rate.into();
        self.world.command(host, Command::Limit { limited, rate });
    }

    /// Number of bytes received in ten seconds.
    fn ten_seconds(&mut self) -> u64 {
        let before = self.world.received(self.bob);
        self.world.run_for(10 * SECOND);
        self.world.received(self.bob) - before
    }

    /// Number of bytes that each download has on disk.
    fn here(&self) -> Vec<u64> {
        let of = |id: &DownloadId| {
            let events = self.world.events(self.bob).iter().rev();
            let mut events = events.filter_map(|event| match event {
                Event::Progress { download, progress } if download == id => Some(progress.done),
                _ => None,
            });
            events.next().unwrap_or_default()
        };
        self.downloads.iter().map(of).collect()
    }

    /// Number of bytes that each download gets in ten seconds.
    fn ten_seconds_each(&mut self) -> Vec<u64> {
        let before = self.here();
        self.world.run_for(10 * SECOND);
        let after = self.here();
        after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect()
    }
}

fn tree(mark: u64) -> Tree {
    Tree::one("f", content(mark, 2_000_000))
}

fn assert_near(bytes: u64, wanted: u64) {
    let off = bytes.abs_diff(wanted);
    assert!(off <= wanted / 20, "{bytes} bytes, and not {wanted}");
}

#[test]
fn what_goes_up_and_what_comes_down_is_what_was_set_alone_and_with_four_transfers() {
    for (seed, limited) in [(300, Limited::Up), (301, Limited::Down)] {
        for transfers in [1, 4] {
            let mut scene = Scene::new(seed, transfers);
            scene.limit(limited, 60_000);
            scene.begin();
            scene.world.run_for(2 * SECOND);
            assert_near(scene.ten_seconds(), 600_000);
        }
    }
}

#[test]
fn one_transfer_may_be_limited_alone() {
    let mut scene = Scene::new(302, 2);
    scene.begin();
    let (share, download) = (scene.shares[0], scene.downloads[1]);
    scene.limit(Limited::One(TransferId::Share(share)), 30_000);
    scene.limit(Limited::One(TransferId::Download(download)), 10_000);
    scene.world.run_for(2 * SECOND);
    let got = scene.ten_seconds_each();
    assert_near(got[0], 300_000);
    assert_near(got[1], 100_000);
}

#[test]
fn the_tighter_limit_holds_and_what_one_may_not_have_goes_to_others() {
    for (seed, limited) in [(303, Limited::Up), (304, Limited::Down)] {
        let mut scene = Scene::new(seed, 2);
        scene.limit(limited, 50_000);
        scene.begin();
        let one = match limited {
            Limited::Up => TransferId::Share(scene.shares[0]),
            _ => TransferId::Download(scene.downloads[0]),
        };
        scene.limit(Limited::One(one), 10_000);
        scene.world.run_for(2 * SECOND);
        let got = scene.ten_seconds_each();
        assert_near(got[0], 100_000);
        assert_near(got[1], 400_000);
    }
}

#[test]
fn a_limit_that_is_changed_holds_from_then_on() {
    for (seed, limited) in [(305, Limited::Up), (306, Limited::Down)] {
        let mut scene = Scene::new(seed, 1);
        scene.limit(limited, 100_000);
        scene.begin();
        scene.world.run_for(3 * SECOND);
        scene.limit(limited, 20_000);
        // Data in flight at the old rate arrives first.
        scene.world.run_for(SECOND / 4);
        assert_near(scene.ten_seconds(), 200_000);
        scene.limit(limited, 60_000);
        assert_near(scene.ten_seconds(), 600_000);
        scene.limit(limited, None);
        let (bob, download) = (scene.bob, scene.downloads[0]);
        let before = scene.world.now();
        complete(&mut scene.world, bob, download);
        let took = scene.world.now().since(before);
        assert!(took < 5 * SECOND, "{took:?} after the limit was lifted");
        assert_same(&scene.world, bob, download, &tree(0));
    }
}

#[test]
fn high_priority_gets_four_times_what_normal_gets() {
    for (seed, limited) in [(307, Limited::Up), (308, Limited::Down)] {
        let mut scene = Scene::new(seed, 2);
        scene.limit(limited, 50_000);
        scene.begin();
        let (host, of) = match limited {
            Limited::Up => (scene.alice, TransferId::Share(scene.shares[1])),
            _ => (scene.bob, TransferId::Download(scene.downloads[1])),
        };
        let priority = Priority::High;
        scene
            .world
            .command(host, Command::Priority { of, priority });
        scene.world.run_for(2 * SECOND);
        let got = scene.ten_seconds_each();
        assert_near(got[0], 100_000);
        assert_near(got[1], 400_000);
    }
}

#[test]
fn four_receivers_of_one_share_get_equal_parts() {
    let (mut world, alice, bob) = pair(309);
    let others = [0; 3].map(|_| world.add_host());
    let (_, ticket) = world.share(alice, tree(0));
    let limited = Limited::Up;
    let rate = Some(80_000);
    world.command(alice, Command::Limit { limited, rate });
    let receivers: Vec<_> = [bob].into_iter().chain(others).collect();
    for host in &receivers {
        world.fetch(*host, &ticket);
    }
    world.run_for(5 * SECOND);
    let before: Vec<_> = receivers.iter().map(|host| world.received(*host)).collect();
    world.run_for(10 * SECOND);
    for (host, before) in receivers.iter().zip(before) {
        let bytes = world.received(*host) - before;
        assert!(
            bytes.abs_diff(200_000) <= 20_000,
            "{bytes} bytes for {host:?}"
        );
    }
}

/// The files fit into a few requests, and a request is hardly any bytes.
#[test]
fn a_thousand_files_of_a_few_bytes_are_held_back_too() {
    let (mut world, alice, bob) = pair(310);
    let tree = (0..900).fold(Tree::new(), |tree, at| {
        tree.file(&format!("f{at}"), content(at, 1))
    });
    let (_, ticket) = world.share(alice, tree);
    let rate = Some(720);
    let limited = Limited::Down;
    world.command(bob, Command::Limit { limited, rate });
    let download = world.fetch(bob, &ticket);
    let summary = complete(&mut world, bob, download);
    // Each counts as eight bytes here.
    assert!(summary.took >= 9 * SECOND, "{:?}", summary.took);
    assert!(summary.took < 15 * SECOND, "{:?}", summary.took);
}

/// Four windows would be three times the memory budget, which the world checks.
#[test]
fn downloads_without_limits_share_what_memory_there_is() {
    let mut scene = Scene::new(311, 4);
    scene.begin();
    scene.world.run_for(Duration::from_millis(300));
    let here = scene.here();
    let (least, most) = (here.iter().min(), here.iter().max());
    let (least, most) = (*least.expect("four"), *most.expect("four"));
    assert!(least > 0 && most <= 2 * least, "{here:?}");
    for download in scene.downloads.clone() {
        complete(&mut scene.world, scene.bob, download);
    }
}
