use std::time::Duration;

use bytes::Bytes;
use handover_core::engine::{DownloadError, DownloadOutcome, LinkId};
use handover_core::frame::plain;
use handover_core::handshake::{Initiator, name_in_request};
use handover_core::message::{self, HandshakeReply, HandshakeRequest, Refusal};
use handover_core::secret::ShareSecret;
use handover_harness::{HostId, Tree, World, content, small_limits};

use crate::{SECOND, blames, complete};

struct Scene {
    world: World,
    alice: HostId,
    mallory: HostId,
    secret: ShareSecret,
    ticket: handover_core::code::Ticket,
}

fn scene() -> Scene {
    let mut world = World::new(90);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    let (_, ticket) = world.share(alice, Tree::one("f", content(1, 300_000)));
    let secret = ticket.secret.clone();
    Scene {
        world,
        alice,
        mallory,
        secret,
        ticket,
    }
}

impl Scene {
    /// A well-formed handshake request with one secret's key under the other's tag.
    fn knock(&self, link: LinkId, key: &ShareSecret, tag: [u8; 16]) -> HandshakeRequest {
        let seed = [u8::try_from(link.0 % 256).unwrap(); 32];
        let (local, remote) = (self.world.peer(self.mallory), self.world.peer(self.alice));
        let (_, noise) = Initiator::new(&key.psk(), &tag, &local, &remote, seed);
        HandshakeRequest {
            version: 1,
            name: name_in_request(&tag, &local, &remote, &noise),
            noise,
        }
    }

    fn replies(&mut self, link: LinkId, bytes: Bytes) -> Vec<HandshakeReply> {
        self.world.say_raw(link, bytes);
        self.world.run_for(SECOND);
        // A reply with keys is followed by frames that this scripted peer can't read.
        let plain = self.world.puppet_link(link).plain.first();
        let reply = plain.map(|bytes| message::decode(bytes).unwrap());
        reply.into_iter().collect()
    }

    fn assert_refused(&mut self, link: LinkId, knock: &[u8], refusal: Refusal) {
        let replies = self.replies(link, plain(knock));
        assert_eq!(replies, [HandshakeReply::Refused(refusal)]);
        assert!(self.world.puppet_link(link).is_over);
    }

    fn assert_open_for_others(&mut self) {
        let bob = self.world.add_host();
        let download = self.world.fetch(bob, &self.ticket);
        complete(&mut self.world, bob, download);
    }
}

/// Whatever is wrong with a handshake request, the reply does not reveal whether the share exists.
#[test]
fn a_bad_knock_is_refused() {
    let mut scene = scene();
    let secret = scene.secret.clone();
    let wrong = ShareSecret::from_bytes([9; 32]);
    let none = Refusal::NoSuchShare;

    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    scene.assert_refused(link, b"garbage", none);

    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    let knock = HandshakeRequest {
        version: 2,
        ..scene.knock(link, &secret, secret.tag())
    };
    scene.assert_refused(link, &message::encode(&knock), Refusal::Version);

    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    let knock = scene.knock(link, &wrong, wrong.tag());
    scene.assert_refused(link, &message::encode(&knock), none);

    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    let knock = scene.knock(link, &wrong, secret.tag());
    scene.assert_refused(link, &message::encode(&knock), none);

    for len in [0, 1, 47, 49] {
        let link = scene.world.puppet_dials(scene.mallory, scene.alice);
        let mut knock = scene.knock(link, &secret, secret.tag());
        knock.noise.resize(len, 0);
        scene.assert_refused(link, &message::encode(&knock), none);
    }
    scene.assert_open_for_others();
}

/// Row 42: two handshake requests for one share have nothing in common that an eavesdropper could see.
#[test]
fn a_knock_does_not_tell_what_it_is_for() {
    let mut scene = scene();
    let secret = scene.secret.clone();
    let knocks: Vec<HandshakeRequest> = (0..2)
        .map(|_| {
            let link = scene.world.puppet_dials(scene.mallory, scene.alice);
            scene.knock(link, &secret, secret.tag())
        })
        .collect();
    assert_ne!(knocks[0].name, knocks[1].name);
    assert_ne!(knocks[0].noise, knocks[1].noise);
    assert!(knocks.iter().all(|knock| knock.name != secret.tag()));
    // A name is valid only for its own handshake request.
    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    let knock = HandshakeRequest {
        name: knocks[0].name,
        ..scene.knock(link, &secret, secret.tag())
    };
    scene.assert_refused(link, &message::encode(&knock), Refusal::NoSuchShare);
    scene.assert_open_for_others();
}

/// Row 24: a handshake request is valid for one link between two peers.
#[test]
fn a_knock_that_was_overheard_opens_nothing() {
    let mut scene = scene();
    let secret = scene.secret.clone();
    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    let knock = message::encode(&scene.knock(link, &secret, secret.tag()));
    let replies = scene.replies(link, plain(&knock));
    assert!(matches!(replies[..], [HandshakeReply::Noise(_)]));
    // Another peer sends the same.
    let eve = scene.world.add_puppet();
    let link = scene.world.puppet_dials(eve, scene.alice);
    scene.assert_refused(link, &knock, Refusal::NoSuchShare);
}

/// Row 13.
#[test]
fn a_first_frame_of_a_wrong_length_ends_the_link() {
    for (len, bytes) in [(0_u32, "0"), (1025, "1025"), (u32::MAX, "4294967295")] {
        let mut scene = scene();
        let link = scene.world.puppet_dials(scene.mallory, scene.alice);
        assert_eq!(scene.replies(link, len.to_be_bytes().to_vec().into()), []);
        assert!(scene.world.puppet_link(link).is_over);
        let reason = format!("a frame of {bytes} bytes, where 1024 are allowed");
        assert_eq!(blames(&scene.world, scene.alice), [reason]);
        scene.assert_open_for_others();
    }
    let mut scene = scene();
    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    scene.assert_refused(link, &[0; 1024], Refusal::NoSuchShare);
}

/// Rows 14 and 17.
#[test]
fn links_that_never_knock_are_few_and_short_lived() {
    let mut scene = scene();
    let most = small_limits().links_in_handshake_of_one;
    for _ in 0..1000 {
        scene.world.puppet_dials(scene.mallory, scene.alice);
        assert!(scene.world.links_of(scene.alice).len() <= most);
    }
    assert_eq!(scene.world.links_of(scene.alice).len(), most);
    // There is always room for an honest receiver.
    let now = scene.world.now();
    scene.assert_open_for_others();
    assert!(scene.world.now().since(now) < small_limits().handshake);
    scene.world.run_for(small_limits().handshake + SECOND);
    assert_eq!(scene.world.links_of(scene.alice), []);
}

/// Occasional bytes do not extend the timeout.
#[test]
fn a_knock_that_drips_is_cut_off() {
    let mut scene = scene();
    let link = scene.world.puppet_dials(scene.mallory, scene.alice);
    for _ in 0..30 {
        scene.world.say_raw(link, vec![0]);
        scene.world.say_raw(link, vec![0]);
        scene.world.run_for(Duration::from_millis(500));
    }
    assert!(scene.world.puppet_link(link).is_over);
}

#[test]
fn nobody_is_let_in_where_nothing_is_shared() {
    let mut world = World::new(91);
    let (alice, mallory) = (world.add_host(), world.add_puppet());
    let link = world.puppet_dials(mallory, alice);
    world.run_for(SECOND);
    assert!(world.puppet_link(link).is_over);
}

/// Row 27: the peer that answers at the address must be the one that the ticket names, and know the secret.
#[test]
fn whoever_answers_without_the_secret_gets_nothing() {
    let mut scene = scene();
    let bob = scene.world.add_host();
    // The scripted peer shares something else; its secret is not the requested one.
    let mut ticket = scene.ticket.clone();
    ticket.peer = scene.world.peer(scene.mallory);
    ticket.addresses = vec![World::address(scene.mallory)];
    let download = scene.world.fetch(bob, &ticket);
    let outcome = scene.world.run_to_end(bob, download);
    let reason = format!("{outcome:?}");
    assert!(reason.contains("Unreachable"), "{reason}");
}

/// Row 27: a peer at the address that knows the secret is not thereby the sharer.
#[test]
fn whoever_answers_for_another_gets_no_word() {
    let mut scene = scene();
    let (bob, eve) = (scene.world.add_host(), scene.world.add_puppet());
    let mut sharing = scene.world.puppet_shares(eve, Tree::one("f", "false"));
    sharing.ticket.peer = scene.world.peer(scene.alice);
    let download = scene.world.fetch(bob, &sharing.ticket);
    let outcome = scene.world.run_to_end(bob, download);
    let reason = "another peer than the one that was called answered";
    let unreachable = DownloadError::Unreachable(reason.to_owned());
    assert_eq!(outcome, DownloadOutcome::Failed(unreachable));
    assert_eq!(scene.world.received(bob), 0);
}
