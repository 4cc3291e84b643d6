use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use handover_core::Keypair;
use handover_core::engine::{DownloadError, DownloadOutcome};
use handover_core::limits::GROUP;
use handover_core::merkle::Hash;
use handover_core::message::{Announced, Failure, Message, Served};
use handover_harness::{HostId, Say, Sharing, Tree, World, content};

use crate::{blames, complete};

const MINUTE: Duration = Duration::from_mins(1);

fn tree() -> Tree {
    Tree::new()
        .file("big", content(1, 2 * GROUP as usize + 10))
        .file("small", content(2, 100))
}

/// A scripted peer that shares, a receiver, and honest peers that must not be disturbed.
struct Scene {
    world: World,
    mallory: HostId,
    bob: HostId,
    sharing: Sharing,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new(60);
        let mallory = world.add_puppet();
        let bob = world.add_host();
        let sharing = world.puppet_shares(mallory, tree());
        Self {
            world,
            mallory,
            bob,
            sharing,
        }
    }

    /// Bob fetches from the scripted peer and from an honest sharer at once. Returns the first outcome; the second is a
    /// success.
    fn run(&mut self) -> DownloadOutcome {
        let carol = self.world.add_host();
        let (_, honest) = self.world.share(carol, Tree::one("h", content(3, 700_000)));
        let good = self.world.fetch(self.bob, &honest);
        let bad = self.world.fetch(self.bob, &self.sharing.ticket);
        let bob = self.bob;
        let over = |world: &World| {
            let enough = world.received(bob) > 10_000_000;
            world.outcome(bob, bad).is_some() || enough
        };
        assert!(self.world.run_until(over, Duration::from_mins(10)));
        let outcome = self.world.outcome(bob, bad).cloned();
        let outcome = outcome.expect("lies are taken without end");
        complete(&mut self.world, self.bob, good);
        let disk = self.world.disk(self.bob);
        assert!(!disk.is_staged(bad), "staging is left behind");
        outcome
    }

    /// Asserts that the scripted peer is blamed for this reason only.
    fn assert_blamed(&mut self, reason: &str) {
        let outcome = self.run();
        let violation = DownloadError::Violation(reason.to_owned());
        assert_eq!(outcome, DownloadOutcome::Failed(violation));
        assert_eq!(blames(&self.world, self.bob), [reason]);
    }

    fn twist(&mut self, twist: impl FnMut(Message, Bytes) -> Vec<Say> + 'static) {
        self.world.twist(self.mallory, twist);
    }

    /// Passes every answer with content through this function.
    fn twist_data(&mut self, mut twist: impl FnMut(&mut Vec<Served>, &mut BytesMut) + 'static) {
        self.twist(move |message, payload| match message {
            Message::Data {
                id,
                segments,
                roots,
            } => {
                let mut payload = BytesMut::from(&payload[..]);
                let mut segments = segments.into_inner();
                twist(&mut segments, &mut payload);
                let segments = segments.into();
                let data = Message::Data {
                    id,
                    segments,
                    roots,
                };
                vec![Say::Sealed(data, payload.freeze())]
            }
            other => vec![Say::Sealed(other, payload)],
        });
    }

    /// Also sends these after the first message of a kind.
    fn twist_once(&mut self, is: fn(&Message) -> bool, more: Vec<Say>) {
        let mut more = Some(more);
        self.twist(move |message, payload| {
            let now = is(&message);
            let mut said = vec![Say::Sealed(message, payload)];
            if now {
                said.extend(more.take().into_iter().flatten());
            }
            said
        });
    }
}

fn is_welcome(message: &Message) -> bool {
    matches!(message, Message::Welcome { .. })
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Data { .. })
}

fn sealed(message: Message) -> Vec<Say> {
    vec![Say::Sealed(message, Bytes::new())]
}

fn strip(segments: &mut [Served]) {
    for served in segments {
        if let Served::Bytes { proof, .. } = served {
            *proof = None;
        }
    }
}

#[test]
fn a_puppet_without_a_twist_is_a_good_sharer() {
    let mut scene = Scene::new();
    assert!(matches!(scene.run(), DownloadOutcome::Completed(summary) if summary.files == 2));
    assert_eq!(blames(&scene.world, scene.bob), [] as [&str; 0]);
}

/// Row 23.
#[test]
fn wrong_bytes_are_caught_at_the_leaf() {
    let mut scene = Scene::new();
    scene.twist_data(|_, payload| payload[5] ^= 1);
    scene.assert_blamed("3 pieces that do not match their root");
}

/// Row 23: up to the limit, a bad leaf is fetched again and arrives.
#[test]
fn two_wrong_pieces_are_fetched_again() {
    let mut scene = Scene::new();
    let mut left = 2;
    scene.twist_data(move |_, payload| {
        if left > 0 {
            left -= 1;
            payload[5] ^= 1;
        }
    });
    assert!(matches!(scene.run(), DownloadOutcome::Completed(summary) if summary.files == 2));
    assert_eq!(blames(&scene.world, scene.bob), [] as [&str; 0]);
}

/// Row 23.
#[test]
fn a_wrong_or_short_or_long_proof_is_caught() {
    for change in [0, 1, 2] {
        let mut scene = Scene::new();
        scene.twist_data(move |segments, _| {
            for served in segments {
                if let Served::Bytes {
                    proof: Some(proof), ..
                } = served
                {
                    let mut hashes = proof.clone().into_inner();
                    match change {
                        0 => hashes.push(Hash([7; 32])),
                        1 if hashes.pop().is_none() => hashes.push(Hash([7; 32])),
                        2 if hashes.is_empty() => hashes.push(Hash([7; 32])),
                        2 => hashes[0] = Hash([7; 32]),
                        _ => {}
                    }
                    *proof = hashes.into();
                }
            }
        });
        scene.assert_blamed("3 pieces that do not match their root");
    }
}

/// Row 23: data that can't be checked leaf by leaf is checked before the file is published.
#[test]
fn wrong_bytes_without_a_proof_are_caught_at_the_root() {
    let mut scene = Scene::new();
    scene.twist_data(|segments, payload| {
        strip(segments);
        payload[5] ^= 1;
    });
    scene.assert_blamed("a file that does not match its root");
}

#[test]
fn a_root_that_is_held_back_is_asked_for_and_checked() {
    for wrong in [false, true] {
        let mut scene = Scene::new();
        scene.twist(move |message, payload| match message {
            Message::Data { id, segments, .. } => {
                let mut segments = segments.into_inner();
                strip(&mut segments);
                let mut payload = BytesMut::from(&payload[..]);
                payload[5] ^= u8::from(wrong);
                let segments = segments.into();
                let data = Message::Data {
                    id,
                    segments,
                    roots: None,
                };
                vec![Say::Sealed(data, payload.freeze())]
            }
            other => vec![Say::Sealed(other, payload)],
        });
        if wrong {
            scene.assert_blamed("a file that does not match its root");
        } else {
            assert!(matches!(scene.run(), DownloadOutcome::Completed(_)));
        }
    }
}

/// Rows 13 and 15.
#[test]
fn lengths_that_lie_are_caught() {
    let mut scene = Scene::new();
    scene.twist_data(|segments, payload| {
        if let Served::Bytes { len, .. } = &mut segments[0] {
            *len -= 1;
            payload.truncate(payload.len() - 1);
        }
    });
    scene.assert_blamed("an answer to another question");

    let mut scene = Scene::new();
    scene.twist_data(|segments, _| {
        if let Served::Bytes { len, .. } = &mut segments[0] {
            *len += 1;
        }
    });
    scene.run();
    let blamed = blames(&scene.world, scene.bob);
    assert!(blamed[0].contains("does not fit its message"), "{blamed:?}");
}

#[test]
fn an_answer_with_too_few_or_too_many_segments_is_caught() {
    let mut scene = Scene::new();
    scene.twist_data(|segments, _| segments.push(Served::Forgotten));
    scene.assert_blamed("an answer to another question");
    let mut scene = Scene::new();
    scene.twist_data(|segments, payload| {
        segments.clear();
        payload.clear();
    });
    scene.assert_blamed("an answer to another question");
}

#[test]
fn an_answer_to_nobody_is_caught() {
    for when in [is_welcome, is_data] {
        let mut scene = Scene::new();
        let data = Message::Data {
            id: 999,
            segments: vec![].into(),
            roots: None,
        };
        scene.twist_once(when, sealed(data));
        scene.assert_blamed("bytes that were not asked for");
    }
}

#[test]
fn an_answer_given_twice_is_caught() {
    let mut scene = Scene::new();
    scene.twist(|message, payload| {
        let say = Say::Sealed(message.clone(), payload);
        if is_data(&message) {
            vec![say.clone(), say]
        } else {
            vec![say]
        }
    });
    scene.assert_blamed("bytes that were not asked for");
}

#[test]
fn a_file_ends_where_its_manifest_says() {
    let mut scene = Scene::new();
    scene.twist_data(|segments, payload| {
        payload.clear();
        *segments = vec![Served::End { len: 0, size: 0 }; segments.len()];
    });
    scene.assert_blamed("a stream that ends twice");
}

#[test]
fn two_roots_for_one_file_are_caught() {
    let mut scene = Scene::new();
    let other = scene.sharing.sign(&[(0, Hash([9; 32]))]);
    scene.twist_once(is_data, sealed(Message::Roots(other)));
    scene.assert_blamed("two roots for one file");
}

#[test]
fn roots_of_what_is_not_there_are_caught() {
    let mut scene = Scene::new();
    let other = scene.sharing.sign(&[(99, Hash([9; 32]))]);
    scene.twist_once(is_data, sealed(Message::Roots(other)));
    scene.assert_blamed("a root of what has none");
}

/// Row 27.
#[test]
fn roots_that_another_key_signed_are_caught() {
    let mut scene = Scene::new();
    let other = Keypair::ed25519_from_bytes([3; 32]).unwrap();
    let mut impostor = scene.sharing.clone();
    impostor.keys = other;
    let forged = impostor.sign(&[(0, Hash([9; 32]))]);
    scene.twist_once(is_data, sealed(Message::Roots(forged)));
    scene.assert_blamed("its roots are refused: the signature of the files' roots is wrong");
}

/// Row 27.
#[test]
fn a_manifest_that_another_key_signed_is_refused() {
    let mut scene = Scene::new();
    let other = Keypair::ed25519_from_bytes([3; 32]).unwrap();
    scene.sharing = scene
        .world
        .puppet_shares_signed_by(scene.mallory, tree(), &other);
    scene.run();
    let blamed = blames(&scene.world, scene.bob);
    assert!(
        blamed[0].starts_with("its manifest is refused"),
        "{blamed:?}"
    );
}

/// Rows 13 and 14.
#[test]
fn a_manifest_that_claims_to_be_huge_is_refused() {
    for bytes in [u64::MAX, 1 << 40, (256 << 10) + 1, 0] {
        let mut scene = Scene::new();
        scene.twist(move |message, payload| match message {
            Message::Welcome { manifest } => sealed(Message::Welcome {
                manifest: manifest.map(|announced| Announced {
                    len: bytes,
                    ..announced
                }),
            }),
            other => vec![Say::Sealed(other, payload)],
        });
        scene.assert_blamed(&format!("a manifest of {bytes} bytes"));
    }
}

#[test]
fn a_manifest_with_another_length_than_announced_is_refused() {
    let mut scene = Scene::new();
    scene.twist(|message, payload| match message {
        Message::Manifest { offset, total } => {
            vec![Say::Sealed(
                Message::Manifest {
                    offset,
                    total: total + 1,
                },
                payload,
            )]
        }
        other => vec![Say::Sealed(other, payload)],
    });
    scene.assert_blamed("a part of a manifest that was not asked for");

    let mut scene = Scene::new();
    scene.twist(|message, payload| match message {
        Message::Welcome { manifest } => sealed(Message::Welcome {
            manifest: manifest.map(|announced| Announced {
                len: announced.len - 1,
                ..announced
            }),
        }),
        Message::Manifest { offset, total } => {
            vec![Say::Sealed(
                Message::Manifest {
                    offset,
                    total: total - 1,
                },
                payload,
            )]
        }
        other => vec![Say::Sealed(other, payload)],
    });
    scene.assert_blamed("a manifest longer than announced");
}

/// Row 20.
#[test]
fn endless_pings_are_a_flood() {
    let mut scene = Scene::new();
    let pings = (0..10_000).map(|nonce| Say::Sealed(Message::Ping { nonce }, Bytes::new()));
    scene.twist_once(is_welcome, pings.collect());
    scene.assert_blamed("a flood of messages without progress");
}

/// Row 20.
#[test]
fn endless_welcomes_of_nothing_are_a_flood() {
    let mut scene = Scene::new();
    scene.twist(|message, payload| match message {
        Message::Welcome { .. } => {
            let nothing = Say::Sealed(Message::Welcome { manifest: None }, Bytes::new());
            vec![nothing; 1000]
        }
        other => vec![Say::Sealed(other, payload)],
    });
    scene.assert_blamed("a flood of messages without progress");
}

#[test]
fn a_second_welcome_and_receivers_messages_are_refused() {
    let id = Scene::new().sharing.manifest.id();
    let manifest = Some(Announced { len: 100, id });
    let cases = [
        (
            Message::Welcome { manifest },
            "a second welcome on one link",
        ),
        (
            Message::GetManifest { offset: 0 },
            "a receiver's message from a sharer",
        ),
        (
            Message::Have { done: 0, total: 0 },
            "a receiver's message from a sharer",
        ),
    ];
    for (message, reason) in cases {
        let mut scene = Scene::new();
        scene.twist_once(is_data, sealed(message));
        scene.assert_blamed(reason);
    }
}

#[test]
fn nothing_is_taken_after_a_share_was_withdrawn() {
    let mut scene = Scene::new();
    scene.twist(|message, payload| {
        let say = Say::Sealed(message.clone(), payload);
        if is_data(&message) {
            vec![Say::Sealed(Message::Withdrawn, Bytes::new()), say]
        } else {
            vec![say]
        }
    });
    assert_eq!(
        scene.run(),
        DownloadOutcome::Failed(DownloadError::Withdrawn)
    );
    assert_eq!(blames(&scene.world, scene.bob), [] as [&str; 0]);
}

#[test]
fn files_that_a_sharer_says_have_failed_are_given_up_and_no_others() {
    let mut scene = Scene::new();
    let failed = Message::Failed {
        entry: 0,
        reason: Failure::Gone,
    };
    let unknown = Message::Failed {
        entry: 77,
        reason: Failure::Gone,
    };
    scene.twist_once(is_data, [sealed(failed), sealed(unknown)].concat());
    let outcome = scene.run();
    let DownloadOutcome::Completed(summary) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((summary.files, summary.failed), (1, 1));
}

/// Row 24.
#[test]
fn a_sealed_frame_that_is_garbage_ends_the_link() {
    let mut scene = Scene::new();
    let garbage = Bytes::from_static(b"\0\0\0\x20 thirty-two bytes of garbage....");
    scene.twist_once(is_data, vec![Say::Raw(garbage)]);
    scene.run();
    assert_eq!(blames(&scene.world, scene.bob).len(), 1);
}

/// Regression, row 19: every such answer was followed by another request, forever.
#[test]
fn an_answer_that_forgets_by_itself_is_refused() {
    let mut scene = Scene::new();
    scene.twist_data(|segments, payload| {
        segments.fill(Served::Forgotten);
        payload.clear();
    });
    scene.assert_blamed("forgot a request by itself");
}

/// Regression, row 23: bad leaves were counted per link, so a sharer that changed links was never dropped.
#[test]
fn changing_links_does_not_make_bad_pieces_good() {
    let mut scene = Scene::new();
    let spoil = Rc::new(Cell::new(true));
    let armed = Rc::clone(&spoil);
    scene.twist_data(move |_, payload| {
        if armed.replace(false) {
            payload[5] ^= 1;
        }
    });
    let download = scene.world.fetch(scene.bob, &scene.sharing.ticket);
    for _ in 0..2 {
        let spoiled = Rc::clone(&spoil);
        assert!(scene.world.run_until(move |_| !spoiled.get(), MINUTE));
        scene.world.run_for(Duration::from_millis(1));
        if scene.world.outcome(scene.bob, download).is_some() {
            break;
        }
        scene.world.kill_links(scene.mallory);
        spoil.set(true);
    }
    let outcome = scene.world.run_to_end(scene.bob, download);
    let reason = "3 pieces that do not match their root".to_owned();
    assert_eq!(
        outcome,
        DownloadOutcome::Failed(DownloadError::Violation(reason))
    );
}
