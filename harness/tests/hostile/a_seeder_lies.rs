use bytes::{Bytes, BytesMut};
use handover_core::engine::Event;
use handover_core::message::{Announced, MAX_RANGES, Message, Served};
use handover_harness::{HostId, Say, Sharing, Tree, World, content};

use crate::{SECOND, blames, complete, giving};

fn tree() -> Tree {
    Tree::new()
        .file("large", content(1, 400_000))
        .file("small", content(2, 100))
}

/// A sharer with a slow uplink, and a scripted peer that says it has everything.
struct Scene {
    world: World,
    mallory: HostId,
    sharing: Sharing,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (alice, mallory) = (world.add_puppet(), world.add_puppet());
        world.limit_uplink(alice, 20_000);
        let sharing = world.puppet_shares(alice, tree());
        world.puppet_has(mallory, &sharing);
        world.make_neighbourly();
        Self {
            world,
            mallory,
            sharing,
        }
    }

    /// Passes everything that the scripted peer sends as a seeder through this function.
    fn twist(&mut self, mut twist: impl FnMut(Message, Bytes) -> Vec<Say> + 'static) {
        let manifest = Announced {
            len: self.sharing.manifest.encoded().len() as u64,
            id: self.sharing.manifest.id(),
        };
        let parts = tree().size().div_ceil(4096) + 1;
        self.world.twist(self.mallory, move |message, payload| {
            if matches!(message, Message::Welcome { .. }) {
                let ranges = vec![(0, parts - 1)].into();
                let said = [Message::Seeder { manifest }, Message::Parts { ranges }];
                return said
                    .into_iter()
                    .flat_map(|message| twist(message, Bytes::new()))
                    .collect();
            }
            twist(message, payload)
        });
    }

    /// Asserts that two receivers complete, and blame the scripted peer for this reason only.
    fn assert_blamed(&mut self, reason: &str) {
        let (bob, carol) = (self.world.add_host(), self.world.add_host());
        let ticket = self.sharing.ticket.clone();
        let downloads =
            [bob, carol].map(|host| (host, self.world.fetch_with(host, &ticket, giving())));
        for (host, download) in downloads {
            complete(&mut self.world, host, download);
        }
        let mallory = self.world.peer(self.mallory);
        for host in [bob, carol] {
            let wrong: Vec<_> = blames(&self.world, host);
            assert!(wrong.iter().all(|blame| blame == reason), "{wrong:?}");
            let others =
                self.world.events(host).iter().any(
                    |event| matches!(event, Event::PeerBlamed { peer, .. } if *peer != mallory),
                );
            assert!(!others, "somebody honest is blamed");
        }
        let all = blames(&self.world, bob).len() + blames(&self.world, carol).len();
        assert!(all > 0, "the puppet is not blamed");
        self.world.run_for(SECOND);
    }
}

fn data(message: Message, payload: Bytes, change: impl Fn(&mut Vec<Served>, &mut BytesMut)) -> Say {
    match message {
        Message::Data {
            id,
            segments,
            roots,
        } => {
            let (mut segments, mut payload) = (segments.into_inner(), BytesMut::from(&payload[..]));
            change(&mut segments, &mut payload);
            let segments = segments.into();
            let data = Message::Data {
                id,
                segments,
                roots,
            };
            Say::Sealed(data, payload.freeze())
        }
        other => Say::Sealed(other, payload),
    }
}

#[test]
fn a_seeder_of_rotten_leaves_is_named_and_the_others_complete() {
    let mut scene = Scene::new(80);
    scene.twist(|message, payload| {
        vec![data(message, payload, |_, payload| {
            if let Some(byte) = payload.first_mut() {
                *byte ^= 1;
            }
        })]
    });
    scene.assert_blamed("3 pieces that do not match their root");
}

#[test]
fn a_seeder_that_proves_nothing_is_dropped() {
    let mut scene = Scene::new(81);
    scene.twist(|message, payload| {
        vec![data(message, payload, |segments, _| {
            for served in segments {
                if let Served::Bytes { proof, .. } = served {
                    *proof = None;
                }
            }
        })]
    });
    scene.assert_blamed("bytes without a proof from who is not the sharer");
}

#[test]
fn a_seeder_has_no_say_in_what_can_be_had() {
    let mut scene = Scene::new(82);
    scene.twist(|message, payload| {
        vec![data(message, payload, |segments, payload| {
            payload.clear();
            for served in segments {
                *served = Served::Failed(handover_core::message::Failure::Gone);
            }
        })]
    });
    scene.assert_blamed("only the sharer can say that");
}

#[test]
fn parts_that_are_not_there_are_refused() {
    let ranges: [Vec<(u64, u64)>; 4] = [
        vec![(0, u64::MAX)],
        vec![(u64::MAX, 2)],
        vec![(5, 1), (0, 1)],
        (0..MAX_RANGES as u64).map(|_| (0, 1)).collect(),
    ];
    for (at, ranges) in (0..).zip(ranges) {
        let mut scene = Scene::new(83 + at);
        scene.twist(move |message, payload| {
            let said = match message {
                Message::Parts { .. } => Message::Parts {
                    ranges: ranges.clone().into(),
                },
                other => other,
            };
            vec![Say::Sealed(said, payload)]
        });
        scene.assert_blamed("parts that are not there, or out of order");
    }
}
