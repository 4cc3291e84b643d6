use std::time::Duration;

use handover_core::code::Ticket;
use handover_core::engine::{Event, LinkId, ReceiverOutcome, Segment};
use handover_core::limits::GROUP;
use handover_core::message::Message;
use handover_harness::{DiskProfile, HostId, Tree, World, content, small_limits};

use crate::{SECOND, blames, complete};

fn tree() -> Tree {
    let tree = Tree::one("big", content(1, 6 << 20)).file("denied", content(2, 1000));
    // A manifest of considerable size.
    (0..800).fold(tree, |tree, n| tree.file(&format!("{n:0150}"), "x"))
}

/// A scripted peer has joined, which may stop reading.
struct Scene {
    world: World,
    alice: HostId,
    ticket: Ticket,
    mallory: HostId,
    link: LinkId,
}

fn scene() -> Scene {
    let mut world = World::new(80);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    let (_, ticket) = world.share(alice, tree());
    world.disk_mut(alice).denied.insert("denied".into());
    world.run_for(SECOND);
    let link = world.puppet_joins(mallory, alice, &ticket);
    world.run_for(SECOND);
    Scene {
        world,
        alice,
        ticket,
        mallory,
        link,
    }
}

impl Scene {
    fn ask(&mut self, id: u64, entry: u32, offset: u64, len: u32) {
        let segments = vec![Segment { entry, offset, len }].into();
        self.world
            .say(self.link, &Message::Request { id, segments });
    }

    /// Asserts that meanwhile another receiver gets every available file.
    fn assert_others_go_on(&mut self) {
        let bob = self.world.add_host();
        let download = self.world.fetch(bob, &self.ticket);
        let outcome = self.world.run_to_end(bob, download);
        let handover_core::engine::DownloadOutcome::Completed(summary) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((summary.files, summary.failed), (801, 1));
    }

    fn assert_blamed(mut self, reason: &str) {
        self.assert_others_go_on();
        self.world.run_for(20 * SECOND);
        assert_eq!(blames(&self.world, self.alice), [reason]);
        assert!(
            self.world.puppet_link(self.link).is_over
                || !self.world.links_of(self.alice).contains(&self.link)
        );
    }
}

/// Row 20.
#[test]
fn a_flood_of_requests() {
    let mut scene = scene();
    scene.world.disk_mut(scene.alice).profile = DiskProfile {
        read: SECOND,
        ..DiskProfile::INSTANT
    };
    for id in 0..100 {
        scene.ask(id, 800, 0, GROUP);
    }
    scene.world.run_for(Duration::from_millis(100));
    scene.world.disk_mut(scene.alice).profile = DiskProfile::INSTANT;
    scene.assert_blamed("too many requests at once");
}

/// Row 20.
#[test]
fn a_flood_of_pings() {
    let mut scene = scene();
    for nonce in 0..1000 {
        scene.world.say(scene.link, &Message::Ping { nonce });
    }
    scene.assert_blamed("a flood of messages without progress");
}

/// Row 20: alternating requests and cancellations make no progress.
#[test]
fn a_flood_of_requests_that_are_forgotten() {
    let mut scene = scene();
    for id in 0..1000 {
        scene.ask(id, 800, 0, GROUP);
        let ids = vec![id].into();
        scene.world.say(scene.link, &Message::Forget { ids });
    }
    scene.assert_others_go_on();
    assert_eq!(blames(&scene.world, scene.alice).len(), 1);
}

/// Row 17: the world checks the data queued for the link.
#[test]
fn a_receiver_that_asks_and_does_not_read_is_left_with_a_full_buffer_and_then_dropped() {
    let mut scene = scene();
    scene.world.stop_reading(scene.mallory);
    for id in 0..16 {
        scene.ask(id, 800, id * u64::from(GROUP), GROUP);
    }
    scene.assert_others_go_on();
    scene.world.run_for(small_limits().dead_after + 5 * SECOND);
    assert_eq!(blames(&scene.world, scene.alice), [] as [&str; 0]);
    scene.world.run_for(small_limits().search + SECOND);
    let lost = |event: &Event| {
        matches!(
            event,
            Event::ReceiverLeft {
                outcome: ReceiverOutcome::Lost,
                ..
            }
        )
    };
    assert_eq!(
        scene
            .world
            .events(scene.alice)
            .iter()
            .filter(|event| lost(event))
            .count(),
        1
    );
    assert_eq!(scene.world.links_of(scene.alice), []);
}

/// Row 17: messages do not keep a link alive that reads nothing.
#[test]
fn a_receiver_that_goes_on_talking_and_does_not_read_is_dropped() {
    let mut scene = scene();
    scene.world.stop_reading(scene.mallory);
    for round in 0..4000 {
        scene.ask(round, 800, 0, GROUP);
        scene.world.say(scene.link, &Message::Ping { nonce: round });
        scene.world.run_for(Duration::from_millis(10));
        if scene.world.puppet_link(scene.link).is_over {
            break;
        }
    }
    assert_eq!(blames(&scene.world, scene.alice).len(), 1);
    scene.assert_others_go_on();
}

/// Regression, row 17: answers without content filled no buffer, and so were queued without limit.
#[test]
fn a_receiver_that_does_not_read_and_asks_for_a_file_that_failed_is_dropped() {
    let mut scene = scene();
    scene.ask(0, 801, 0, 1000);
    scene.world.run_for(SECOND);
    scene.world.stop_reading(scene.mallory);
    for id in 1..100_000 {
        scene.ask(id, 801, 0, 1000);
        if id % 100 == 0 {
            scene.world.run_for(Duration::from_millis(1));
        }
        if scene.world.links_of(scene.alice).is_empty() {
            break;
        }
    }
    scene.assert_blamed("asks faster than it takes answers");
}

/// Rows 17 and 20.
#[test]
fn a_receiver_that_asks_for_the_manifest_again_and_again_and_does_not_read_is_dropped() {
    let mut scene = scene();
    scene.world.stop_reading(scene.mallory);
    for _ in 0..60 {
        scene
            .world
            .say(scene.link, &Message::GetManifest { offset: 0 });
        scene.world.run_for(Duration::from_millis(10));
    }
    scene.assert_blamed("asks for the manifest faster than it takes it");
}

/// Row 20: a receiver that reads uses up a budget, but no memory.
#[test]
fn a_receiver_that_asks_for_the_manifest_again_and_again_is_dropped() {
    let mut scene = scene();
    for _ in 0..100 {
        scene
            .world
            .say(scene.link, &Message::GetManifest { offset: 0 });
        scene.world.run_for(Duration::from_millis(10));
    }
    scene.assert_blamed("a flood of messages without progress");
}

#[test]
fn roots_that_are_waited_for_are_bounded() {
    let mut world = World::new(81);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    world.disk_mut(alice).profile = DiskProfile {
        hash: 1000 * SECOND,
        read: 1000 * SECOND,
        ..DiskProfile::INSTANT
    };
    let (_, ticket) = world.share(alice, tree());
    world.run_for(SECOND);
    let link = world.puppet_joins(mallory, alice, &ticket);
    for entry in 0..16 {
        world.say(link, &Message::GetRoot { entry });
        world.say(link, &Message::GetRoot { entry });
    }
    world.run_for(SECOND);
    assert_eq!(blames(&world, alice), [] as [&str; 0]);
    world.say(link, &Message::GetRoot { entry: 16 });
    world.run_for(SECOND);
    assert_eq!(blames(&world, alice), ["too many roots at once"]);
}

/// Row 17: as many hostile receivers as are accepted, and honest ones.
#[test]
fn many_that_do_not_read_leave_the_honest_ones_alone() {
    let mut scene = scene();
    let mallory = scene.world.add_puppet();
    let links: Vec<_> = (0..12)
        .map(|_| {
            scene
                .world
                .puppet_joins(mallory, scene.alice, &scene.ticket)
        })
        .collect();
    scene.world.run_for(SECOND);
    scene.world.stop_reading(mallory);
    for link in links {
        scene.link = link;
        for id in 0..16 {
            scene.ask(id, 800, id * u64::from(GROUP), GROUP);
        }
    }
    scene.world.run_for(Duration::from_millis(100));
    let bob = scene.world.add_host();
    let carol = scene.world.add_host();
    let (_, other) = scene
        .world
        .share(scene.alice, Tree::one("o", content(5, 500_000)));
    let downloads = [
        (bob, scene.world.fetch(bob, &other)),
        (carol, scene.world.fetch(carol, &other)),
    ];
    for (host, download) in downloads {
        complete(&mut scene.world, host, download);
    }
    scene.assert_others_go_on();
}
