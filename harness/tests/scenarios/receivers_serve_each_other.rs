use std::time::Duration;

use handover_core::engine::{Command, DownloadError, DownloadId, DownloadOutcome, Event, ShareId};
use handover_harness::{Answer, Fetch, HostId, Tree, World, content, small_limits};

use crate::swarmed::{seeding_for, tree};
use crate::{SECOND, assert_same, complete, count};

/// Uplink of the sharer, in bytes per second.
const SLOW: u64 = 20_000;

/// Seeds during the download, and for ten minutes afterwards.
fn seeding() -> Fetch {
    seeding_for(Duration::from_mins(10))
}

/// A sharer with a slow uplink, and receivers.
struct Crowd {
    world: World,
    alice: HostId,
    share: ShareId,
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
    fn new(seed: u64, receivers: usize, fetch: &Fetch) -> Self {
        let mut world = World::new(seed);
        let alice = world.add_host();
        world.limit_uplink(alice, SLOW);
        let (share, ticket) = world.share(alice, tree());
        let downloads = (0..receivers).map(|_| {
            let host = world.add_host();
            (host, world.fetch_with(host, &ticket, fetch.clone()))
        });
        let downloads = downloads.collect();
        Self {
            world,
            alice,
            share,
            downloads,
        }
    }

    /// Runs until all receivers have everything. Returns how long it took.
    fn run(&mut self) -> Duration {
        let began = self.world.now();
        let downloads = self.downloads.clone();
        let all = |world: &World| downloads.iter().all(|(host, _)| has_all(world, *host));
        let done = self.world.run_until(all, Duration::from_mins(10));
        for (host, download) in &self.downloads {
            let last: Vec<_> = self.world.events(*host).iter().rev().take(4).collect();
            assert!(done, "{host:?}: {last:#?}");
            assert_same(&self.world, *host, *download, &tree());
        }
        self.world.now().since(began)
    }

    /// Runs until the first receiver has everything.
    fn run_until_one_has_all(&mut self) {
        let (first, _) = self.downloads[0];
        let one = |world: &World| has_all(world, first);
        assert!(self.world.run_until(one, Duration::from_mins(10)));
    }

    fn is_blamed(&self) -> bool {
        let blamed = |event: &Event| matches!(event, Event::PeerBlamed { .. });
        let hosts = self.downloads.iter().map(|(host, _)| *host);
        hosts
            .chain([self.alice])
            .any(|host| count(&self.world, host, blamed) > 0)
    }
}

#[test]
fn two_receivers_spare_the_sharer() {
    let mut crowd = Crowd::new(700, 2, &seeding());
    crowd.run();
    let uploaded = crowd.world.uploaded(crowd.alice);
    assert!(uploaded < tree().size() * 3 / 2, "{uploaded} bytes");
    let served = crowd.downloads.iter();
    let served: u64 = served.map(|(host, _)| crowd.world.uploaded(*host)).sum();
    assert!(served > tree().size() / 2, "{served} bytes");
    for (host, _) in crowd.downloads {
        // How much of it each of them gets from the sharer is up to them.
        assert!(crowd.world.uploaded(host) > 0);
        let joined = |event: &Event| matches!(event, Event::SourceJoined { .. });
        assert!(count(&crowd.world, host, joined) > 0);
    }
}

#[test]
fn five_receivers_take_little_longer_than_one_and_little_more_of_the_sharer() {
    let alone = Crowd::new(701, 1, &seeding()).run();
    let mut crowd = Crowd::new(701, 5, &seeding());
    let together = crowd.run();
    assert!(together < alone * 2, "{together:?}, and {alone:?} alone");
    let uploaded = crowd.world.uploaded(crowd.alice);
    assert!(uploaded < tree().size() * 2, "{uploaded} bytes");
}

#[test]
fn a_sharer_that_is_killed_once_one_copy_is_out_is_not_missed() {
    let mut crowd = Crowd::new(702, 4, &seeding());
    crowd.run_until_one_has_all();
    let alice = crowd.alice;
    crowd.world.crash(alice);
    crowd.run();
    assert!(!crowd.is_blamed());
}

#[test]
fn a_share_that_is_withdrawn_goes_on_among_its_receivers() {
    let mut crowd = Crowd::new(703, 3, &seeding());
    crowd.run_until_one_has_all();
    let share = crowd.share;
    crowd.world.command(crowd.alice, Command::Unshare { share });
    crowd.run();
    assert!(!crowd.is_blamed());
}

#[test]
fn who_does_not_seed_is_never_served_from() {
    let mut crowd = Crowd::new(704, 3, &Fetch::default());
    crowd.world.make_neighbourly();
    crowd.run();
    for (host, _) in &crowd.downloads {
        assert_eq!(crowd.world.uploaded(*host), 0);
        let joined = |event: &Event| matches!(event, Event::SourceJoined { .. });
        assert_eq!(count(&crowd.world, *host, joined), 0);
    }
}

#[test]
fn what_nobody_who_is_left_has_is_waited_for_and_then_given_up() {
    let mut crowd = Crowd::new(705, 3, &seeding());
    let some = |world: &World| world.uploaded(HostId(0)) > 100_000;
    assert!(crowd.world.run_until(some, Duration::from_mins(1)));
    let alice = crowd.alice;
    crowd.world.crash(alice);
    let began = crowd.world.now();
    for (host, download) in &crowd.downloads {
        let outcome = crowd.world.run_to_end(*host, *download);
        let lost = matches!(
            outcome,
            DownloadOutcome::Failed(DownloadError::Unreachable(_))
        );
        assert!(lost, "{outcome:?}");
    }
    let took = crowd.world.now().since(began);
    assert!(took < 2 * small_limits().search + 20 * SECOND, "{took:?}");
    assert!(!crowd.is_blamed());
}

#[test]
fn a_sharer_that_comes_back_is_found_again_while_others_serve() {
    let mut crowd = Crowd::new(706, 2, &seeding());
    let some = |world: &World| world.uploaded(HostId(0)) > 100_000;
    assert!(crowd.world.run_until(some, Duration::from_mins(1)));
    crowd.world.open_routes(crowd.alice, false);
    crowd.world.kill_links(crowd.alice);
    crowd.world.run_for(10 * SECOND);
    crowd.world.open_routes(crowd.alice, true);
    crowd.run();
    let lost = |event: &Event| matches!(event, Event::ConnectionLost { .. });
    for (host, _) in &crowd.downloads {
        assert!(count(&crowd.world, *host, lost) <= 1);
    }
}

#[test]
fn a_file_that_its_user_has_changed_is_not_served_and_nobody_is_to_blame() {
    let mut crowd = Crowd::new(707, 1, &seeding());
    crowd.run();
    let (bob, had) = crowd.downloads[0];
    crowd
        .world
        .disk_mut(bob)
        .put(had, "large", content(9, 400_000));
    let carol = crowd.world.add_host();
    let (_, ticket) = crowd.world.share(crowd.alice, Tree::one("other", "x"));
    drop(ticket);
    let ticket = crowd
        .world
        .events(crowd.alice)
        .iter()
        .find_map(|event| match event {
            Event::ShareOpen { share, ticket, .. } if *share == crowd.share => Some(ticket.clone()),
            _ => None,
        });
    let download = crowd
        .world
        .fetch_with(carol, &ticket.unwrap(), Fetch::default());
    complete(&mut crowd.world, carol, download);
    assert_same(&crowd.world, carol, download, &tree());
    let served = crowd.world.uploaded(bob);
    assert!(served >= 60_000, "{served} bytes of what is still right");
    crowd.downloads.push((carol, download));
    assert!(!crowd.is_blamed());
}

#[test]
fn who_is_through_and_seeds_ends_when_its_time_is_over() {
    let mut crowd = Crowd::new(708, 1, &seeding());
    crowd.run();
    let (bob, download) = crowd.downloads[0];
    crowd.world.run_for(Duration::from_mins(9));
    assert_eq!(crowd.world.outcome(bob, download), None);
    let outcome = crowd.world.run_to_end(bob, download);
    assert!(
        matches!(outcome, DownloadOutcome::Completed(_)),
        "{outcome:?}"
    );
    assert_same(&crowd.world, bob, download, &tree());
    assert!(crowd.world.links_of(bob).is_empty());
}

#[test]
fn a_seeder_that_is_cancelled_has_completed() {
    let mut crowd = Crowd::new(709, 1, &seeding());
    crowd.run();
    let (bob, download) = crowd.downloads[0];
    crowd.world.command(bob, Command::Cancel { download });
    let outcome = crowd.world.run_to_end(bob, download);
    assert!(
        matches!(outcome, DownloadOutcome::Completed(_)),
        "{outcome:?}"
    );
    assert_same(&crowd.world, bob, download, &tree());
}

/// Regression: sources learnt while the user still looked at the offer were forgotten.
#[test]
fn sources_that_are_told_of_before_the_offer_is_taken_are_asked() {
    let mut crowd = Crowd::new(710, 1, &seeding());
    crowd.run();
    let ticket = crowd
        .world
        .events(crowd.alice)
        .iter()
        .find_map(|event| match event {
            Event::ShareOpen { ticket, .. } => Some(ticket.clone()),
            _ => None,
        });
    let carol = crowd.world.add_host();
    let fetch = Fetch {
        answer: Answer::Wait,
        ..seeding()
    };
    let download = crowd.world.fetch_with(carol, &ticket.unwrap(), fetch);
    crowd.world.run_for(10 * SECOND);
    let terms = match Answer::default() {
        Answer::Accept(terms) => terms,
        other => panic!("{other:?}"),
    };
    crowd
        .world
        .command(carol, Command::Accept { download, terms });
    crowd.downloads.push((carol, download));
    let took = crowd.run();
    assert!(
        took < 10 * SECOND,
        "{took:?}: the sharer alone takes longer"
    );
}
