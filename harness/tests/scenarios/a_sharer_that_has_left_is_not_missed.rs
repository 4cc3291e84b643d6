use std::time::Duration;

use handover_core::code::Ticket;
use handover_core::engine::{Command, DownloadError, DownloadId, DownloadOutcome, Event};
use handover_harness::{Answer, Fetch, HostId, World, small_limits};

use crate::swarmed::{seeding_for, tree};
use crate::{SECOND, assert_same, complete, count};

/// Seeds during the download, and for an hour afterwards.
fn seeding() -> Fetch {
    seeding_for(Duration::from_hours(1))
}

/// Seeds only during the download.
fn giving() -> Fetch {
    let mut fetch = seeding();
    fetch.options.seed_for = None;
    fetch
}

/// A sharer, and a receiver that has everything and seeds, on one local network.
struct Scene {
    world: World,
    alice: HostId,
    bob: HostId,
    ticket: Ticket,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (alice, bob) = (world.add_host(), world.add_host());
        world.make_neighbourly();
        let (_, ticket) = world.share(alice, tree());
        world.fetch_with(bob, &ticket, seeding());
        let has_all =
            |world: &World| count(world, bob, |event| matches!(event, Event::Seeding { .. })) > 0;
        assert!(world.run_until(has_all, Duration::from_mins(1)));
        Self {
            world,
            alice,
            bob,
            ticket,
        }
    }

    fn no_sharer(seed: u64) -> Self {
        let mut scene = Self::new(seed);
        scene.world.crash(scene.alice);
        scene
    }

    fn deputies(&self, host: HostId) -> usize {
        let deputies = |event: &Event| matches!(event, Event::Deputy { .. });
        count(&self.world, host, deputies)
    }

    fn assert_nobody_is_blamed(&self, hosts: &[HostId]) {
        for host in hosts {
            let blamed = |event: &Event| matches!(event, Event::PeerBlamed { .. });
            assert_eq!(count(&self.world, *host, blamed), 0);
        }
    }
}

#[track_caller]
fn assert_unreachable(outcome: &DownloadOutcome) {
    let unreachable = matches!(
        outcome,
        DownloadOutcome::Failed(DownloadError::Unreachable(_))
    );
    assert!(unreachable, "{outcome:?}");
}

fn terms() -> handover_core::engine::AcceptTerms {
    match Answer::default() {
        Answer::Accept(terms) => terms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_comes_late_gets_all_of_it_from_who_has_it() {
    let mut scene = Scene::no_sharer(900);
    let carol = scene.world.add_host();
    let began = scene.world.now();
    let download = scene.world.fetch_with(carol, &scene.ticket, giving());
    complete(&mut scene.world, carol, download);
    assert_same(&scene.world, carol, download, &tree());
    assert_eq!(scene.deputies(carol), 1);
    let took = scene.world.now().since(began);
    assert!(took < 10 * SECOND, "{took:?}");
    scene.assert_nobody_is_blamed(&[scene.bob, carol]);
}

#[test]
fn who_was_killed_goes_on_with_who_has_it() {
    let mut scene = Scene::new(901);
    let carol = scene.world.add_host();
    let first = scene.world.fetch_with(carol, &scene.ticket, giving());
    let half = |world: &World| world.received(carol) > tree().size() / 2;
    assert!(scene.world.run_until(half, Duration::from_mins(1)));
    scene.world.crash(carol);
    scene.world.crash(scene.alice);
    let fetch = Fetch {
        existing: scene.world.disk(carol).folder(first).clone(),
        leftover: scene.world.disk(carol).leftover(first),
        ..seeding()
    };
    scene.world.restart(carol);
    let second = scene.world.fetch_with(carol, &scene.ticket, fetch);
    let has_all =
        |world: &World| count(world, carol, |event| matches!(event, Event::Seeding { .. })) > 0;
    assert!(scene.world.run_until(has_all, Duration::from_mins(1)));
    assert_same(&scene.world, carol, second, &tree());
    let (fetched, all) = (scene.world.received(carol), tree().size());
    let again = fetched.saturating_sub(all);
    assert!(again <= small_limits().window, "{again} bytes came again");
    scene.assert_nobody_is_blamed(&[scene.bob, carol]);
}

/// The user takes a long time, and the sharer returns meanwhile.
#[test]
fn a_sharer_that_comes_back_is_found_once_the_offer_is_taken() {
    let mut scene = Scene::new(902);
    scene.world.open_routes(scene.alice, false);
    scene.world.kill_links(scene.alice);
    let carol = scene.world.add_host();
    let fetch = Fetch {
        answer: Answer::Wait,
        ..giving()
    };
    let download = scene.world.fetch_with(carol, &scene.ticket, fetch);
    scene.world.run_for(Duration::from_mins(5));
    assert_eq!(scene.deputies(carol), 1);
    assert_eq!(scene.world.outcome(carol, download), None);
    scene.world.open_routes(scene.alice, true);
    let terms = terms();
    let accept = Command::Accept { download, terms };
    scene.world.command(carol, accept);
    complete(&mut scene.world, carol, download);
    assert_same(&scene.world, carol, download, &tree());
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    assert_eq!(count(&scene.world, carol, connected), 1);
    scene.assert_nobody_is_blamed(&[scene.alice, scene.bob, carol]);
}

/// All peers that have the content leave while the user looks at the offer.
#[test]
fn who_takes_an_offer_of_which_nobody_is_left_is_told() {
    let mut scene = Scene::no_sharer(903);
    let carol = scene.world.add_host();
    let fetch = Fetch {
        answer: Answer::Wait,
        ..giving()
    };
    let download = scene.world.fetch_with(carol, &scene.ticket, fetch);
    scene.world.run_for(20 * SECOND);
    assert_eq!(scene.deputies(carol), 1);
    scene.world.crash(scene.bob);
    let terms = terms();
    let accept = Command::Accept { download, terms };
    scene.world.command(carol, accept);
    let began = scene.world.now();
    let outcome = scene.world.run_to_end(carol, download);
    assert_unreachable(&outcome);
    let took = scene.world.now().since(began);
    assert!(took < 2 * small_limits().search, "{took:?}");
}

/// While the sharer answers, no other peer is asked for the manifest.
#[test]
fn a_sharer_that_is_there_is_asked_alone() {
    let mut scene = Scene::new(904);
    let carol = scene.world.add_host();
    let download: DownloadId = scene.world.fetch_with(carol, &scene.ticket, giving());
    complete(&mut scene.world, carol, download);
    assert_eq!(scene.deputies(carol), 0);
}

/// A receiver that does not seed does not supply the manifest either.
#[test]
fn who_does_not_seed_stands_in_for_nobody() {
    let mut scene = Scene::new(905);
    let carol = scene.world.add_host();
    let download = scene.world.fetch(carol, &scene.ticket);
    complete(&mut scene.world, carol, download);
    scene.world.crash(scene.alice);
    scene.world.crash(scene.bob);
    let dave = scene.world.add_host();
    let download = scene.world.fetch_with(dave, &scene.ticket, giving());
    let outcome = scene.world.run_to_end(dave, download);
    assert_unreachable(&outcome);
    assert_eq!(scene.deputies(dave), 0);
}
