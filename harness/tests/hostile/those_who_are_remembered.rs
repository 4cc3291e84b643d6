use bytes::Bytes;
use handover_core::engine::{DownloadOutcome, Event, FetchOptions, LinkId};
use handover_core::message::{Leave, Message, SecretBytes};
use handover_harness::{Fetch, HostId, Offering, Say, Tree, World, content};

use crate::{SECOND, blames};

fn remember() -> Message {
    Message::Remember {
        half: SecretBytes([5; 32]),
    }
}

fn hello() -> Message {
    Message::Hello {
        session: 1,
        name: "mallory".to_owned(),
    }
}

/// A share with or without pairing, and a scripted peer that has keyed a link to its sharer.
fn shared(remembers: bool) -> (World, HostId, LinkId) {
    let mut world = World::new(120);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    let mut offering = Offering::tree(Tree::one("f", content(1, 1000)));
    offering.options.remember = remembers;
    let (_, ticket) = world.share_with(alice, offering);
    let link = world.puppet_dials(mallory, alice);
    world.puppet_knocks(mallory, link, &ticket.secret);
    world.run_for(SECOND);
    (world, alice, link)
}

fn is_paired(world: &World, host: HostId) -> bool {
    let mut events = world.events(host).iter();
    events.any(|event| matches!(event, Event::Paired { .. }))
}

/// Number of answers to its pairing request that a scripted peer received.
fn answers(world: &World, link: LinkId) -> usize {
    let frames = world.puppet_link(link).frames.iter();
    frames
        .filter(|frame| matches!(frame.message, Message::Remember { .. }))
        .count()
}

#[test]
fn a_receiver_says_it_once_and_after_its_greeting() {
    for remembers in [true, false] {
        let (mut world, alice, link) = shared(remembers);
        world.say(link, &hello());
        world.say(link, &remember());
        world.say(link, &remember());
        world.run_for(SECOND);
        let reason = "asks twice on one link to be remembered";
        assert_eq!(blames(&world, alice), [reason]);
        assert!(!is_paired(&world, alice));
        let (mut world, alice, link) = shared(remembers);
        world.say(link, &remember());
        world.run_for(SECOND);
        let reason = "asks to be remembered before it says who it is";
        assert_eq!(blames(&world, alice), [reason]);
    }
}

#[test]
fn who_would_not_remember_says_nothing_and_keeps_nothing() {
    for (remembers, expected) in [(true, 1), (false, 0)] {
        let (mut world, alice, link) = shared(remembers);
        world.say(link, &hello());
        world.say(link, &remember());
        world.run_for(SECOND);
        assert_eq!(answers(&world, link), expected);
        assert!(!is_paired(&world, alice), "before it has everything");
        let outcome = Leave::Completed;
        world.say(link, &Message::Leave { outcome });
        world.run_for(SECOND);
        assert_eq!(is_paired(&world, alice), remembers);
    }
}

/// A sharer that answers without a request, or more often than requested.
#[test]
fn a_sharer_answers_once_and_only_if_it_was_asked() {
    for (asks, answers, is_fine) in [(true, 1, true), (true, 2, false), (false, 1, false)] {
        let mut world = World::new(121);
        let (bob, mallory) = (world.add_host(), world.add_puppet());
        let sharing = world.puppet_shares(mallory, Tree::one("f", content(1, 1000)));
        let mut answers = answers;
        world.twist(mallory, move |message, payload: Bytes| {
            let mut said = vec![Say::Sealed(message.clone(), payload)];
            if matches!(message, Message::Manifest { .. }) {
                let again = std::iter::repeat_n(remember(), std::mem::take(&mut answers));
                said.extend(again.map(|message| Say::Sealed(message, Bytes::new())));
            }
            said
        });
        let fetch = Fetch {
            options: FetchOptions {
                remember: asks,
                ..FetchOptions::default()
            },
            ..Fetch::default()
        };
        let download = world.fetch_with(bob, &sharing.ticket, fetch);
        let outcome = world.run_to_end(bob, download);
        if is_fine {
            assert!(matches!(outcome, DownloadOutcome::Completed(_)));
        } else {
            let reason = "remembers who has not asked for it, or twice";
            assert_eq!(blames(&world, bob), [reason]);
        }
        assert_eq!(is_paired(&world, bob), is_fine);
    }
}
