//! Manifest sources that lie: a scripted peer has what an unreachable sharer shares, and lies about it.

use bytes::{Bytes, BytesMut};
use handover_core::engine::{DownloadOutcome, Event, FetchOptions};
use handover_core::message::{Announced, Message};
use handover_harness::{Fetch, HostId, Say, Sharing, Tree, World, content};

use crate::{SECOND, blames, complete, giving};

fn tree() -> Tree {
    (0..60).fold(Tree::one("large", content(1, 100_000)), |tree, n| {
        tree.file(&format!("one of many {n}"), content(n, 10))
    })
}

/// Changes what the scripted peer sends.
type Twist = fn(Message, Bytes) -> Vec<Say>;

/// An unreachable sharer, a scripted peer that has its share, and optionally an honest one.
struct Scene {
    world: World,
    liar: HostId,
    carol: HostId,
    sharing: Sharing,
}

impl Scene {
    fn new(seed: u64, honest: bool, twist: Twist) -> Self {
        let mut world = World::new(seed);
        let (alice, liar) = (world.add_puppet(), world.add_puppet());
        let sharing = world.puppet_shares(alice, tree());
        let mut seeds = vec![(liar, twist)];
        if honest {
            let pass: Twist = |message, payload| vec![Say::Sealed(message, payload)];
            seeds.push((world.add_puppet(), pass));
        }
        for (puppet, twist) in seeds {
            world.puppet_has(puppet, &sharing);
            let manifest = Announced {
                len: sharing.manifest.encoded().len() as u64,
                id: sharing.manifest.id(),
            };
            world.twist(puppet, move |message, payload| {
                if !matches!(message, Message::Welcome { .. }) {
                    return twist(message, payload);
                }
                // One part for each group of the large file, and one for each of the others.
                let ranges = vec![(0, 25 + 60)].into();
                let said = [Message::Seeder { manifest }, Message::Parts { ranges }];
                let said = said.into_iter().map(|message| twist(message, Bytes::new()));
                said.flatten().collect()
            });
        }
        world.open_routes(alice, false);
        let carol = world.add_host();
        world.make_neighbourly();
        Self {
            world,
            liar,
            carol,
            sharing,
        }
    }

    fn run(&mut self) -> DownloadOutcome {
        let (carol, ticket) = (self.carol, self.sharing.ticket.clone());
        let download = self.world.fetch_with(carol, &ticket, giving());
        self.world.run_to_end(carol, download)
    }

    fn shown(&self) -> usize {
        let shown = |event: &&Event| matches!(event, Event::Deputy { .. });
        self.world.events(self.carol).iter().filter(shown).count()
    }
}

/// The scripted peer is blamed, with this reason only, and the download fails; beside an honest one it completes.
fn assert_blamed(twist: Twist, reason: &str) {
    let mut alone = Scene::new(20, false, twist);
    let outcome = alone.run();
    assert!(matches!(outcome, DownloadOutcome::Failed(_)), "{outcome:?}");
    assert_eq!(blames(&alone.world, alone.carol), [reason]);
    let mut blamed = 0;
    for seed in 0..8 {
        let mut scene = Scene::new(seed, true, twist);
        let carol = scene.carol;
        let download = scene
            .world
            .fetch_with(carol, &scene.sharing.ticket.clone(), giving());
        complete(&mut scene.world, carol, download);
        let liar = scene.world.peer(scene.liar);
        for event in scene.world.events(carol) {
            if let Event::PeerBlamed { peer, .. } = event {
                assert_eq!(*peer, liar, "seed {seed}");
                blamed += 1;
            }
        }
    }
    assert!(blamed > 0, "it was never asked first");
}

/// The same message, except for the announced length of the manifest.
fn claiming(message: Message, payload: Bytes, len: fn(u64) -> u64) -> Vec<Say> {
    let message = match message {
        Message::Seeder { manifest } => Message::Seeder {
            manifest: Announced {
                len: len(manifest.len),
                ..manifest
            },
        },
        other => other,
    };
    vec![Say::Sealed(message, payload)]
}

#[test]
fn a_manifest_with_a_byte_spoilt_is_not_shown() {
    let spoil: Twist = |message, payload| {
        let mut payload = BytesMut::from(&payload[..]);
        if let (Message::Manifest { .. }, Some(last)) = (&message, payload.last_mut()) {
            *last ^= 1;
        }
        vec![Say::Sealed(message, payload.freeze())]
    };
    let mut scene = Scene::new(1, false, spoil);
    scene.run();
    let blames = blames(&scene.world, scene.carol);
    assert!(
        blames.len() == 1 && blames[0].contains("refused"),
        "{blames:?}"
    );
    assert_eq!(scene.shown(), 0);
}

#[test]
fn another_manifest_than_announced_is_not_shown() {
    assert_blamed(
        |message, payload| claiming(message, payload, |len| len + 1),
        "a part of a manifest that was not asked for",
    );
}

#[test]
fn a_manifest_that_claims_to_be_huge_is_refused() {
    assert_blamed(
        |message, payload| claiming(message, payload, |_| 1 << 40),
        "a manifest of 1099511627776 bytes",
    );
}

#[test]
fn a_manifest_that_nobody_asked_for_is_refused() {
    assert_blamed(
        |message, payload| match message {
            Message::Seeder { .. } => {
                let unasked = Message::Manifest {
                    offset: 0,
                    total: 3,
                };
                vec![Say::Sealed(unasked, Bytes::from_static(b"abc"))]
            }
            other => vec![Say::Sealed(other, payload)],
        },
        "a part of a manifest that was not asked for",
    );
}

#[test]
fn one_manifest_after_the_other_is_a_second_welcome() {
    assert_blamed(
        |message, payload| match message {
            Message::Seeder { .. } => {
                let again = message.clone();
                vec![
                    Say::Sealed(message, payload.clone()),
                    Say::Sealed(again, payload),
                ]
            }
            other => vec![Say::Sealed(other, payload)],
        },
        "a second welcome on one link",
    );
}

/// It is abandoned, and another peer is asked.
#[test]
fn one_that_says_nothing_more_is_not_waited_for() {
    let dumb: Twist = |message, payload| match message {
        Message::Manifest { .. } => Vec::new(),
        other => vec![Say::Sealed(other, payload)],
    };
    for seed in 0..4 {
        let mut scene = Scene::new(seed, true, dumb);
        let carol = scene.carol;
        let fetch = Fetch {
            options: FetchOptions {
                search: Some(100 * SECOND),
                ..giving().options
            },
            ..giving()
        };
        let download = scene
            .world
            .fetch_with(carol, &scene.sharing.ticket.clone(), fetch);
        complete(&mut scene.world, carol, download);
        assert_eq!(blames(&scene.world, carol), [] as [&str; 0]);
    }
}
