use bytes::Bytes;
use handover_core::code::Ticket;
use handover_core::engine::{LinkId, Segment};
use handover_core::frame::plain;
use handover_core::limits::{GROUP, LEAF, MAX_PAYLOAD, MAX_SEALED_FRAME};
use handover_core::message::{Failure, Message};
use handover_harness::{HostId, Tree, World, content};

use crate::{SECOND, blames, complete};

/// Size of a file, in bytes. Three of them exceed a group.
const SMALL: u32 = GROUP / 5 * 2;

/// By index: a folder, three files smaller than a group, one of several groups, many tiny ones.
fn tree() -> Tree {
    let mut tree = Tree::new()
        .folder("a")
        .file("b1", content(1, SMALL as usize))
        .file("b2", content(2, SMALL as usize))
        .file("b3", content(3, SMALL as usize))
        .file("c", content(4, 3 * GROUP as usize + 100));
    for n in 0..40 {
        tree = tree.file(&format!("d{n:02}"), content(n, 10));
    }
    tree
}

/// Entry, offset and length.
type Asked = (u32, u64, u32);

struct Scene {
    world: World,
    alice: HostId,
    ticket: Ticket,
    link: LinkId,
}

/// A scripted peer has joined, and has received the offer.
fn scene() -> Scene {
    let mut world = World::new(70);
    let alice = world.add_host();
    let mallory = world.add_puppet();
    let (_, ticket) = world.share(alice, tree());
    world.run_for(SECOND);
    let link = world.puppet_joins(mallory, alice, &ticket);
    world.run_for(SECOND);
    Scene {
        world,
        alice,
        ticket,
        link,
    }
}

impl Scene {
    /// Asserts that the scripted peer is dropped for this reason, while an honest receiver gets everything.
    fn assert_blamed(mut self, reason: &str) {
        let bob = self.world.add_host();
        let download = self.world.fetch(bob, &self.ticket);
        complete(&mut self.world, bob, download);
        self.world.run_for(SECOND);
        assert_eq!(blames(&self.world, self.alice), [reason]);
        assert!(self.world.puppet_link(self.link).is_over);
    }

    /// Asserts that the scripted peer is treated as an honest one.
    fn assert_served(mut self, answers: usize) {
        self.world.run_for(SECOND);
        assert_eq!(blames(&self.world, self.alice), [] as [&str; 0]);
        let frames = &self.world.puppet_link(self.link).frames;
        let data = frames
            .iter()
            .filter(|frame| matches!(frame.message, Message::Data { .. }));
        assert_eq!(data.count(), answers);
    }

    fn ask(&mut self, id: u64, segments: &[Asked]) {
        let segment = |(entry, offset, len): &Asked| Segment {
            entry: *entry,
            offset: *offset,
            len: *len,
        };
        let segments: Vec<_> = segments.iter().map(segment).collect();
        let segments = segments.into();
        self.world
            .say(self.link, &Message::Request { id, segments });
    }
}

/// Rows 14 and 15.
#[test]
fn ranges_that_are_not_there() {
    let (leaf, group) = (u64::from(LEAF), u64::from(GROUP));
    let end = 3 * group;
    let cases = [
        (4, 0, 0),
        (4, 1, LEAF),
        (4, leaf / 2, LEAF),
        (4, 0, LEAF - 1),
        (4, 0, GROUP + LEAF),
        (4, group - leaf, 2 * LEAF),
        (4, end, 101),
        (4, end, LEAF),
        (4, end + leaf, LEAF),
        (4, u64::MAX, 1),
        (4, u64::MAX - leaf + 1, LEAF),
        (4, u64::MAX - 2 * group + 1, GROUP),
        (4, 1 << 63, LEAF),
        (1, 0, u32::MAX),
        (1, 0, SMALL + 1),
        (1, 0, SMALL - 1),
    ];
    for case in cases {
        let mut scene = scene();
        scene.ask(0, &[case]);
        scene.assert_blamed("asked for a range that is not there");
    }
}

#[test]
fn entries_without_bytes() {
    for entry in [0, 45, u32::MAX] {
        let mut scene = scene();
        scene.ask(0, &[(entry, 0, LEAF)]);
        scene.assert_blamed("asked for what has no bytes");
    }
    for entry in [0, 45, u32::MAX] {
        let mut scene = scene();
        scene.world.say(scene.link, &Message::GetRoot { entry });
        scene.assert_blamed("the root of what has none");
    }
}

/// Row 14: a bulk request may ask for each root once, so that a sharer need not go through its entries again and again.
#[test]
fn roots_in_bulk_are_asked_for_once() {
    let get = |first, count| Message::GetRoots { first, count };
    let mut at_the_limit = scene();
    for (first, count) in [(0, 44), (44, 1)] {
        at_the_limit
            .world
            .say(at_the_limit.link, &get(first, count));
    }
    at_the_limit.world.run_for(SECOND);
    let frames = &at_the_limit.world.puppet_link(at_the_limit.link).frames;
    let roots = frames
        .iter()
        .filter(|frame| matches!(frame.message, Message::Roots(_)));
    assert_eq!(roots.count(), 2);
    at_the_limit.world.say(at_the_limit.link, &get(44, 1));
    at_the_limit.assert_blamed("asks for the same roots twice");
    for (first, count) in [(0, 0), (0, 46), (45, 1), (u32::MAX, 1), (1, u32::MAX)] {
        let mut scene = scene();
        scene.world.say(scene.link, &get(first, count));
        scene.assert_blamed("the roots of what is not there");
    }
}

#[test]
fn chunks_of_what_has_none_and_too_many_at_once() {
    let get = |entry, first| Message::GetChunks { entry, first };
    for entry in [0, 45, u32::MAX] {
        let mut scene = scene();
        scene.world.say(scene.link, &get(entry, 0));
        scene.assert_blamed("the chunks of what has none");
    }
    let mut twice = scene();
    twice.world.say(twice.link, &get(4, 0));
    twice.world.say(twice.link, &get(3, 0));
    twice.assert_blamed("asks for chunks before the last ones came");
    let mut behind = scene();
    behind.world.say(behind.link, &get(4, 0));
    behind.world.run_for(SECOND);
    behind.world.say(behind.link, &get(4, 1));
    behind.world.run_for(SECOND);
    assert_eq!(blames(&behind.world, behind.alice), [] as [&str; 0]);
    behind.world.say(behind.link, &get(4, 9999));
    behind.assert_blamed("asks for chunks behind the last one");
}

/// Row 14: the limit is 32 segments and a group of bytes.
#[test]
fn requests_of_the_wrong_shape() {
    let small: Vec<_> = (5..38).map(|entry| (entry, 0, 10)).collect();
    let mut at_the_limit = scene();
    at_the_limit.ask(0, &small[..32]);
    at_the_limit.assert_served(1);
    let cases: [(&[Asked], &str); 4] = [
        (&small, "a request with no or too many segments"),
        (&[], "a request with no or too many segments"),
        (
            &[(1, 0, SMALL), (2, 0, SMALL), (3, 0, SMALL)],
            "a request over a group",
        ),
        (&[(4, 0, LEAF), (5, 0, 10)], "a request mixes ranges"),
    ];
    for (segments, reason) in cases {
        let mut scene = scene();
        scene.ask(0, segments);
        scene.assert_blamed(reason);
    }
}

/// Overlaps are allowed, because an answer may have been lost with a link. They cost the same as any request.
#[test]
fn ranges_that_overlap_are_served() {
    let mut scene = scene();
    scene.ask(0, &[(4, 0, GROUP)]);
    scene.ask(1, &[(4, 0, LEAF)]);
    scene.ask(2, &[(4, u64::from(LEAF), 2 * LEAF)]);
    scene.ask(u64::MAX, &[(5, 0, 10), (5, 0, 10)]);
    scene.assert_served(4);
}

#[test]
fn request_numbers_that_do_not_count_up() {
    for next in [5, 4, 0] {
        let mut scene = scene();
        scene.ask(5, &[(5, 0, 10)]);
        scene.ask(next, &[(6, 0, 10)]);
        scene.assert_blamed("request numbers do not count up");
    }
}

#[test]
fn greetings_that_are_too_many_or_too_long() {
    let hello = |name: usize| Message::Hello {
        session: 1,
        name: "n".repeat(name),
    };
    let mut second = scene();
    second.world.say(second.link, &hello(1));
    second.assert_blamed("a second greeting on one link");

    for (name, fits) in [(255, true), (256, false)] {
        let mut scene = scene();
        let mallory = scene.world.add_puppet();
        scene.link = scene.world.puppet_dials(mallory, scene.alice);
        let secret = scene.ticket.secret.clone();
        scene.world.puppet_knocks(mallory, scene.link, &secret);
        scene.world.say(scene.link, &hello(name));
        if fits {
            scene.assert_served(0);
        } else {
            scene.assert_blamed("a name that is too long");
        }
    }
}

#[test]
fn sharers_messages() {
    let messages = [
        Message::Welcome { manifest: None },
        Message::Manifest {
            offset: 0,
            total: 1,
        },
        Message::Data {
            id: 0,
            segments: vec![].into(),
            roots: None,
        },
        Message::Failed {
            entry: 0,
            reason: Failure::Gone,
        },
        Message::Withdrawn,
    ];
    for message in messages {
        let mut scene = scene();
        scene.world.say(scene.link, &message);
        scene.assert_blamed("a sharer's message from a receiver");
    }
}

#[test]
fn parts_of_the_manifest_that_are_not_there() {
    for offset in [1 << 20, u64::MAX] {
        let mut scene = scene();
        scene
            .world
            .say(scene.link, &Message::GetManifest { offset });
        scene.assert_blamed("asked for bytes behind the manifest");
    }
}

/// Row 24: a sealed frame does not open twice, and an unsealed one does not open at all.
#[test]
fn frames_that_do_not_open() {
    let mut replayed = scene();
    let frame = replayed
        .world
        .say(replayed.link, &Message::Ping { nonce: 1 });
    replayed.world.run_for(SECOND);
    replayed.world.say_raw(replayed.link, frame);
    replayed.world.run_for(SECOND);
    assert_eq!(blames(&replayed.world, replayed.alice).len(), 1);

    let garbage = [&64_u32.to_be_bytes()[..], &[0xA5; 64]].concat();
    let short = [&3_u32.to_be_bytes()[..], &[0; 3]].concat();
    for raw in [
        Bytes::from(garbage),
        Bytes::from(short),
        plain(b"no keys needed"),
    ] {
        let mut scene = scene();
        scene.world.say_raw(scene.link, raw);
        scene.world.run_for(SECOND);
        assert_eq!(blames(&scene.world, scene.alice).len(), 1);
        assert!(scene.world.puppet_link(scene.link).is_over);
    }
}

/// Row 13: a receiver sends no bulk data, so its frames are at most as long as a header.
#[test]
fn lengths_of_nothing_and_of_too_much() {
    let most = MAX_SEALED_FRAME - MAX_PAYLOAD;
    for len in [0, most + 1, u32::MAX] {
        let mut scene = scene();
        let prefix = len.to_be_bytes().to_vec();
        scene.world.say_raw(scene.link, prefix);
        scene.assert_blamed(&format!("a frame of {len} bytes, where {most} are allowed"));
    }
}

/// Row 15: a stream has no size to check a range against.
#[test]
fn a_stream_is_not_asked_for_at_its_far_end() {
    let mut world = World::new(71);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    let offering = handover_harness::Offering::pipe(content(1, 1000));
    let (_, ticket) = world.share_with(alice, offering);
    world.run_for(SECOND);
    let link = world.puppet_joins(mallory, alice, &ticket);
    let mut scene = Scene {
        world,
        alice,
        ticket,
        link,
    };
    let group = u64::from(GROUP);
    for (id, offset) in (0..).zip([u64::MAX - 2 * group + 1, 1 << 40, group / 2]) {
        scene.ask(id, &[(0, offset, LEAF)]);
    }
    scene.assert_served(3);
}
