//! The handshake that keys a link: two messages, after which both ends know that the other has the share's secret.
//!
//! It is `Noise_NNpsk0_25519_AESGCM_SHA256` (Noise specification, revision 34), implemented by the snow crate. Its
//! pre-shared key is derived from the share's secret, and its prologue binds everything that both ends must agree on:
//!
//! ```text
//! prologue = "handover/1 link" || tag of the share, 16 bytes || id of the initiator || id of the responder
//! id       = length, u8 || the bytes of the peer id
//! ```
//!
//! The peer ids are those that the transport's own encryption has authenticated. So an attacker in the middle that
//! forwards the messages over its own connections to both ends gets no keys. Both messages are 48 bytes and have no
//! payload.
//!
//! Who may start a handshake, how often and with which timeout is decided by [`crate::engine`].

#![allow(
    clippy::missing_panics_doc,
    reason = "the panics here are patterns that break their own contract"
)]
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

use std::cell::Cell;
use std::fmt;
use std::sync::LazyLock;

use hkdf::Hkdf;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::Sha256;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::PeerId;
use crate::frame::LinkKeys;

/// Length of either message, in bytes: an ephemeral public key, and the tag of an empty payload.
pub const MESSAGE: usize = 48;

const PROTOCOL: &[u8] = b"handover/1 link";
/// HKDF info prefix of the share's name in a handshake request.
const NAME_IN_KNOCK: &[u8] = b"handover/1 knock";

static PARAMS: LazyLock<NoiseParams> = LazyLock::new(|| {
    "Noise_NNpsk0_25519_AESGCM_SHA256"
        .parse()
        .expect("a pattern that snow knows")
});

/// The other end did not prove the secret: it does not know it, or it is not the peer in the prologue, or the message
/// was changed on the way. These cases cannot be distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side did not prove that it knows the code")]
pub struct HandshakeError;

/// The initiator's state between its message and the reply.
pub struct Initiator(Box<HandshakeState>);

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(..)")
    }
}

impl Initiator {
    /// Starts a handshake; also returns its first message. `local` is our own peer id and `remote` the one authenticated
    /// by the transport. `seed` is fresh randomness that is used only here.
    pub fn new(
        psk: &[u8; 32],
        tag: &[u8; 16],
        local: &PeerId,
        remote: &PeerId,
        seed: [u8; 32],
    ) -> (Self, Vec<u8>) {
        let prologue = prologue(tag, local, remote);
        let mut state = builder(psk, &prologue, seed)
            .build_initiator()
            .expect("the pattern needs nothing that is not given");
        let first = write(&mut state);
        (Self(Box::new(state)), first)
    }

    /// Completes the handshake with the responder's reply.
    pub fn finish(mut self, reply: &[u8]) -> Result<LinkKeys, HandshakeError> {
        read(&mut self.0, reply)?;
        let (initiator, responder) = split(&mut self.0);
        Ok(LinkKeys::new(*initiator, *responder))
    }
}

/// The responder's side: reads the first message and returns the reply and the keys. `local` is our own peer id and
/// `remote` the one authenticated by the transport. `seed` is fresh randomness that is used only here.
pub fn respond(
    psk: &[u8; 32],
    tag: &[u8; 16],
    local: &PeerId,
    remote: &PeerId,
    first: &[u8],
    seed: [u8; 32],
) -> Result<(Vec<u8>, LinkKeys), HandshakeError> {
    let prologue = prologue(tag, remote, local);
    let mut state = builder(psk, &prologue, seed)
        .build_responder()
        .expect("the pattern needs nothing that is not given");
    read(&mut state, first)?;
    let reply = write(&mut state);
    let (initiator, responder) = split(&mut state);
    Ok((reply, LinkKeys::new(*responder, *initiator)))
}

/// Returns the name of the share with this tag in one handshake request. Every request has a different name, so that
/// anyone without the secret cannot tell whether two requests are for the same share. `first` is the request's Noise
/// message.
pub fn name_in_request(
    tag: &[u8; 16],
    initiator: &PeerId,
    responder: &PeerId,
    first: &[u8],
) -> [u8; 16] {
    let info = [NAME_IN_KNOCK, &ids(initiator, responder)].concat();
    let mut name = [0; 16];
    Hkdf::<Sha256>::new(Some(first), tag)
        .expand(&info, &mut name)
        .expect("HKDF-SHA256 gives up to 8160 bytes");
    name
}

fn prologue(tag: &[u8; 16], initiator: &PeerId, responder: &PeerId) -> Vec<u8> {
    [PROTOCOL, tag, &ids(initiator, responder)].concat()
}

/// Encodes both peer ids, each prefixed with its length.
fn ids(initiator: &PeerId, responder: &PeerId) -> Vec<u8> {
    let mut ids = Vec::new();
    for id in [initiator, responder] {
        let id = id.to_bytes();
        ids.push(u8::try_from(id.len()).expect("a peer id is 42 bytes at the most"));
        ids.extend_from_slice(&id);
    }
    ids
}

fn builder<'a>(psk: &'a [u8; 32], prologue: &'a [u8], seed: [u8; 32]) -> Builder<'a> {
    Builder::with_resolver(PARAMS.clone(), Box::new(Seeded::new(seed)))
        .psk(0, psk)
        .and_then(|builder| builder.prologue(prologue))
        .expect("key and prologue are set once")
}

fn write(state: &mut HandshakeState) -> Vec<u8> {
    let mut message = vec![0; MESSAGE];
    let len = state
        .write_message(&[], &mut message)
        .expect("it is our turn, and the message has room");
    assert_eq!(len, MESSAGE, "a handshake message of another length");
    message
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<(), HandshakeError> {
    if message.len() != MESSAGE {
        return Err(HandshakeError);
    }
    match state.read_message(message, &mut [0; MESSAGE]) {
        Ok(0) => Ok(()),
        _ => Err(HandshakeError),
    }
}

type Key = Zeroizing<[u8; 32]>;

/// Returns the keys of the two directions: the initiator's, then the responder's.
fn split(state: &mut HandshakeState) -> (Key, Key) {
    assert!(
        state.is_handshake_finished(),
        "keys before the handshake's end"
    );
    let (initiator, responder) = state.dangerously_get_raw_split();
    (Key::new(initiator), Key::new(responder))
}

/// snow's own primitives, but with seeded randomness instead of the operating system's.
struct Seeded(Cell<Option<SeededRng>>);

impl Seeded {
    fn new(seed: [u8; 32]) -> Self {
        let rng = ChaCha20Rng::from_seed(*Zeroizing::new(seed));
        Self(Cell::new(Some(SeededRng(rng))))
    }
}

impl CryptoResolver for Seeded {
    /// Returned only once, so that no two users draw the same bytes.
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.take().map(|rng| Box::new(rng) as Box<dyn Random>)
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SeededRng(ChaCha20Rng);

impl Random for SeededRng {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::frame::{ReceiveKey, SendKey, open, seal};
    use crate::message::Message;

    const PSK: [u8; 32] = [1; 32];
    const TAG: [u8; 16] = [2; 16];

    fn peer(seed: u8) -> PeerId {
        let key = libp2p_identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        key.public().to_peer_id()
    }

    fn alice() -> PeerId {
        peer(1)
    }

    fn bob() -> PeerId {
        peer(2)
    }

    fn initiate() -> (Initiator, Vec<u8>) {
        Initiator::new(&PSK, &TAG, &alice(), &bob(), [3; 32])
    }

    fn answer(first: &[u8]) -> Result<(Vec<u8>, LinkKeys), HandshakeError> {
        respond(&PSK, &TAG, &bob(), &alice(), first, [4; 32])
    }

    /// Row 42.
    #[test]
    fn a_share_has_another_name_in_each_knock() {
        let (_, first) = initiate();
        let name = name_in_request(&TAG, &alice(), &bob(), &first);
        insta::assert_snapshot!(HEXLOWER.encode(&name), @"371383989cda4f6b54a9aa2ce758ef66");
        assert_ne!(name, name_in_request(&[3; 16], &alice(), &bob(), &first));
        assert_ne!(name, name_in_request(&TAG, &bob(), &alice(), &first));
        let (_, other) = Initiator::new(&PSK, &TAG, &alice(), &bob(), [5; 32]);
        assert_ne!(name, name_in_request(&TAG, &alice(), &bob(), &other));
    }

    fn agree() -> (Vec<u8>, Vec<u8>, LinkKeys, LinkKeys) {
        let (initiator, first) = initiate();
        let (reply, theirs) = answer(&first).unwrap();
        (
            first,
            reply.clone(),
            initiator.finish(&reply).unwrap(),
            theirs,
        )
    }

    /// A fingerprint of a key: equal for equal keys only.
    fn mark(key: &SendKey) -> Bytes {
        seal(key, 0, &Message::Withdrawn, b"").unwrap()
    }

    fn opens(receive: &ReceiveKey, send: &SendKey) -> bool {
        open(receive, 0, BytesMut::from(&mark(send)[4..])).is_ok()
    }

    #[test]
    fn vectors() {
        let (first, reply, ours, theirs) = agree();
        let prologue = prologue(&TAG, &alice(), &bob());
        insta::assert_snapshot!(HEXLOWER.encode(&prologue), @"68616e646f7665722f31206c696e6b02020202020202020202020202020202260024080112208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c260024080112208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394");
        insta::assert_snapshot!(HEXLOWER.encode(&first), @"403e5376b7e466f103572da5ac47cab01c7226109925ffb2b20e12c3f3476a560194eb78fc5dcd660f226663e464f818");
        insta::assert_snapshot!(HEXLOWER.encode(&reply), @"325420fcc13cc3a0f84d673c85f59c6c2764afa49e256068c04025fb1855ef17b05e2ddc30263ffe246796da3a3c7503");
        insta::assert_snapshot!(HEXLOWER.encode(&mark(&ours.send)), @"0000001eafdde8d4bbce4384d82b9d47894000fbfdf269f62e3f20a9cf98e0651a8d");
        insta::assert_snapshot!(HEXLOWER.encode(&mark(&theirs.send)), @"0000001ee2ab63bcd785fcc9d18450e5544be98c7f7bee0632d79b7785afe93a7c9e");
    }

    #[test]
    fn both_ends_agree_and_the_directions_differ() {
        let (_, _, ours, theirs) = agree();
        assert!(opens(&theirs.receive, &ours.send) && opens(&ours.receive, &theirs.send));
        assert!(!opens(&ours.receive, &ours.send) && !opens(&theirs.receive, &theirs.send));
        assert_ne!(mark(&ours.send), mark(&theirs.send));
    }

    #[test]
    fn the_same_seeds_give_the_same_link_and_others_another() {
        let (first, reply, ours, _) = agree();
        let (again, same_reply, same, _) = agree();
        assert_eq!((&first, &reply), (&again, &same_reply));
        assert_eq!(mark(&ours.send), mark(&same.send));

        let (initiator, other) = Initiator::new(&PSK, &TAG, &alice(), &bob(), [5; 32]);
        assert_ne!(other, first);
        let (reply, _) = answer(&other).unwrap();
        assert_ne!(
            mark(&initiator.finish(&reply).unwrap().send),
            mark(&ours.send)
        );

        let (other, theirs) = respond(&PSK, &TAG, &bob(), &alice(), &first, [5; 32]).unwrap();
        assert_ne!(other, reply);
        assert!(!opens(&theirs.receive, &ours.send));
    }

    #[test]
    fn whoever_does_not_know_the_secret_is_refused() {
        let (_, first) = Initiator::new(&[9; 32], &TAG, &alice(), &bob(), [3; 32]);
        assert_eq!(answer(&first).unwrap_err(), HandshakeError);
        // A responder without the secret cannot even read the first message, so it makes up a reply.
        let (initiator, _) = initiate();
        let (_, made_up) = Initiator::new(&[9; 32], &TAG, &bob(), &alice(), [3; 32]);
        assert_eq!(initiator.finish(&made_up).unwrap_err(), HandshakeError);
    }

    #[test]
    fn a_knock_for_another_share_is_refused() {
        let (_, first) = Initiator::new(&PSK, &[0; 16], &alice(), &bob(), [3; 32]);
        assert_eq!(answer(&first).unwrap_err(), HandshakeError);
    }

    #[test]
    fn a_peer_between_that_passes_messages_on_is_refused() {
        let mallory = peer(3);
        // Alice dialled Mallory, who forwards her message to Bob.
        let (_, first) = Initiator::new(&PSK, &TAG, &alice(), &mallory, [3; 32]);
        let passed_on = respond(&PSK, &TAG, &bob(), &mallory, &first, [4; 32]);
        assert_eq!(passed_on.unwrap_err(), HandshakeError);
        // Swapping the ids or reflecting a message does not help either.
        let (_, first) = initiate();
        let swapped = respond(&PSK, &TAG, &alice(), &bob(), &first, [4; 32]);
        assert_eq!(swapped.unwrap_err(), HandshakeError);
        let (initiator, first) = initiate();
        assert_eq!(initiator.finish(&first).unwrap_err(), HandshakeError);
    }

    #[test]
    fn a_reply_to_another_message_is_refused() {
        let (_, other) = Initiator::new(&PSK, &TAG, &alice(), &bob(), [5; 32]);
        let (reply, _) = answer(&other).unwrap();
        let (initiator, _) = initiate();
        assert_eq!(initiator.finish(&reply).unwrap_err(), HandshakeError);
    }

    #[test]
    fn messages_that_are_changed_cut_or_longer_are_refused() {
        let (first, reply, ..) = agree();
        assert_eq!((first.len(), reply.len()), (MESSAGE, MESSAGE));
        for wrong in damaged(&first) {
            assert_eq!(answer(&wrong).unwrap_err(), HandshakeError);
        }
        for wrong in damaged(&reply) {
            let (initiator, _) = initiate();
            assert_eq!(initiator.finish(&wrong).unwrap_err(), HandshakeError);
        }
    }

    /// Returns the message with each byte changed, and with each other length up to twice its own.
    fn damaged(message: &[u8]) -> Vec<Vec<u8>> {
        let changed = (0..message.len()).map(|at| {
            let mut wrong = message.to_vec();
            wrong[at] ^= 1;
            wrong
        });
        let twice = message.repeat(2);
        let cut = (0..=twice.len())
            .filter(|len| *len != message.len())
            .map(|len| twice[..len].to_vec());
        changed.chain(cut).collect()
    }

    #[test]
    fn a_key_that_is_no_point_does_not_panic() {
        for byte in [0, 1, 0xff] {
            assert_eq!(answer(&[byte; MESSAGE]).unwrap_err(), HandshakeError);
        }
    }
}
