//! Attacks by a malicious receiver on an honest sharer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use handover_core::code::ShortCode;
use handover_core::engine::{LinkId, Segment, VERSION};
use handover_core::frame::plain;
use handover_core::handshake::{self, Initiator};
use handover_core::limits::{GROUP, LEAF, MAX_SEALED_FRAME};
use handover_core::message::{
    self, HandshakeReply, HandshakeRequest, Leave, Message, Proof, ShortCodeRequest,
};
use handover_core::pake::Pake;
use handover_core::secret::ShareSecret;
use handover_transports::memory::HostId;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use crate::World;
use crate::ledger::{Fault, happened, promise};

/// A kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attack {
    /// Sends endless requests.
    RequestFlood,
    /// Requests the same range repeatedly.
    Overlaps,
    /// Requests ranges that do not exist.
    BadRanges,
    /// Sends requests and never reads an answer.
    NeverReads,
    /// Sends a handshake request without the secret.
    Stranger,
    /// Sends a handshake request with the short code's number, but other words.
    Guesses,
    /// Sends bytes that are not a handshake request.
    Garbage,
    /// Connects and sends nothing.
    Mute,
    /// Announces a frame of four gigabytes.
    HugeFrame,
    /// Requests the manifest repeatedly.
    ManifestFlood,
    /// Requests roots repeatedly.
    RootFlood,
    /// Sends endless pings.
    PingFlood,
    /// Sends endless progress reports.
    HaveFlood,
    /// Sends its greeting twice.
    HelloTwice,
    /// Says that it has everything, and comes again.
    Churn,
    /// Sends messages that only sharers send.
    OtherRole,
    /// Sends its own frames a second time.
    Replay,
}

impl Attack {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::RequestFlood,
        Self::Overlaps,
        Self::BadRanges,
        Self::NeverReads,
        Self::Stranger,
        Self::Guesses,
        Self::Garbage,
        Self::Mute,
        Self::HugeFrame,
        Self::ManifestFlood,
        Self::RootFlood,
        Self::PingFlood,
        Self::HaveFlood,
        Self::HelloTwice,
        Self::Churn,
        Self::OtherRole,
        Self::Replay,
    ];

    /// True if the attacked peer must end the link.
    pub fn must_end(self) -> bool {
        !matches!(self, Self::Overlaps | Self::NeverReads | Self::RequestFlood)
    }
}

/// Number of messages of one attack over one link.
const MANY: u64 = 300;

/// State of an attacking scripted peer.
pub(super) struct Attacker {
    attack: Attack,
    secret: ShareSecret,
    /// Non-empty entries of the share, with their sizes.
    files: Vec<(u32, u64)>,
    /// The number of the share's short code, if it has one, with other words.
    guess: Option<ShortCode>,
    /// Handshakes in progress.
    asking: BTreeMap<LinkId, Pake>,
    knocking: BTreeMap<LinkId, Initiator>,
    /// Links on which the attack has started.
    begun: BTreeSet<LinkId>,
}

impl World {
    /// Makes a scripted peer attack a host's share, over a new link.
    pub fn puppet_attacks(
        &mut self,
        puppet: HostId,
        host: HostId,
        attack: Attack,
        secret: &ShareSecret,
        short: Option<&ShortCode>,
        files: &[(u32, u64)],
    ) {
        if !self.is_running(host) {
            return;
        }
        let guess = short.map(|code| {
            loop {
                let guess = code.with_new_words(&mut ChaCha20Rng::from_seed(self.draw()));
                if guess != *code {
                    break guess;
                }
            }
        });
        self.puppet_mut(puppet).attacker = Some(Attacker {
            guess,
            asking: BTreeMap::new(),
            attack,
            secret: secret.clone(),
            files: files.to_vec(),
            knocking: BTreeMap::new(),
            begun: BTreeSet::new(),
        });
        if attack == Attack::NeverReads {
            // It reads until the link is keyed.
            self.puppet_mut(puppet).reads = true;
        }
        let route = self.route_to(host);
        self.connect(puppet, None, host, route);
    }

    /// Starts an attack on a new link: with a handshake request, or with what it sends instead.
    pub(crate) fn attacker_is_up(&mut self, place: HostId, link: LinkId) {
        let (seed, local) = (self.draw(), self.peer(place));
        let puppet = self.puppet_mut(place);
        let peer = puppet.links[&link].peer;
        let Some(attacker) = &mut puppet.attacker else {
            return;
        };
        let tag = attacker.secret.tag();
        match attacker.attack {
            Attack::Mute => return happened(Fault::Attack),
            Attack::Garbage => {
                happened(Fault::Attack);
                return self.say_raw(link, plain(b"not a knock at all"));
            }
            _ => {}
        }
        if attacker.attack == Attack::Guesses {
            let Some(guess) = &attacker.guess else {
                return;
            };
            let (pake, point) = Pake::receiver(guess, &local, &peer, seed);
            let knock = ShortCodeRequest {
                version: VERSION,
                number: guess.number(),
                point,
            };
            attacker.asking.insert(link, pake);
            return self.say_raw(link, plain(&message::encode(&knock)));
        }
        let psk = if attacker.attack == Attack::Stranger {
            happened(Fault::Attack);
            ShareSecret::from_bytes(seed).psk()
        } else {
            attacker.secret.psk()
        };
        let (initiator, noise) = Initiator::new(&psk, &tag, &local, &peer, seed);
        attacker.knocking.insert(link, initiator);
        let knock = HandshakeRequest {
            version: VERSION,
            name: handshake::name_in_request(&tag, &local, &peer, &noise),
            noise,
        };
        self.say_raw(link, plain(&message::encode(&knock)));
    }

    /// Handles a reply to an attacker's handshake request. Returns true if the link is keyed now.
    pub(super) fn attacker_hears_reply(
        &mut self,
        place: HostId,
        link: LinkId,
        body: &[u8],
    ) -> bool {
        let Some(attacker) = &mut self.puppet_mut(place).attacker else {
            return false;
        };
        let (attack, initiator) = (attacker.attack, attacker.knocking.remove(&link));
        let asking = attacker.asking.remove(&link);
        let reply = message::decode::<HandshakeReply>(body);
        if let (Some(pake), Ok(HandshakeReply::Point(point))) = (asking, &reply) {
            self.guess(place, link, pake, point);
            return false;
        }
        let (Some(initiator), Ok(HandshakeReply::Noise(noise))) = (initiator, reply) else {
            return false;
        };
        let keys = initiator.finish(&noise);
        if matches!(attack, Attack::Stranger | Attack::Guesses) {
            promise!(Strangers, keys.is_err(), "a stranger got keys");
        }
        let Ok(keys) = keys else {
            return false;
        };
        let end = self.ends.get_mut(&link).expect("it stands");
        end.wire.key(keys, MAX_SEALED_FRAME, &mut self.nonces);
        let (session, name) = (link.0, "attacker".to_owned());
        self.say(link, &Message::Hello { session, name });
        true
    }

    /// Handles the sharer's PAKE point: sends the password proof that results from a guess.
    fn guess(&mut self, place: HostId, link: LinkId, pake: Pake, point: &[u8]) {
        let (seed, local) = (self.draw(), self.peer(place));
        let puppet = self.puppet_mut(place);
        let peer = puppet.links[&link].peer;
        let Some(attacker) = &mut puppet.attacker else {
            return;
        };
        let (Ok(key), Some(guess)) = (pake.finish(point), &attacker.guess) else {
            return;
        };
        let tag = u128::from(guess.number()).to_be_bytes();
        let (initiator, noise) = Initiator::new(&key, &tag, &local, &peer, seed);
        attacker.knocking.insert(link, initiator);
        happened(Fault::Attack);
        happened(Fault::WrongWords);
        self.say_raw(link, plain(&message::encode(&Proof { noise })));
    }

    /// Handles a message on an attacker's link. The attack starts after the welcome.
    pub(super) fn attacker_hears(&mut self, place: HostId, link: LinkId, message: &Message) {
        if let Message::Ping { nonce } = message {
            let nonce = *nonce;
            self.say(link, &Message::Pong { nonce });
            return;
        }
        let welcome = matches!(message, Message::Welcome { manifest: Some(_) });
        let Some(attacker) = &mut self.puppet_mut(place).attacker else {
            return;
        };
        promise!(
            Strangers,
            attacker.attack != Attack::Stranger,
            "a stranger is told {message:?}"
        );
        if welcome && attacker.begun.insert(link) {
            let (attack, files) = (attacker.attack, attacker.files.clone());
            happened(Fault::Attack);
            if attack == Attack::NeverReads {
                self.stop_reading(place);
            }
            self.attack(link, attack, &files);
        }
    }

    fn attack(&mut self, link: LinkId, attack: Attack, files: &[(u32, u64)]) {
        match attack {
            Attack::HugeFrame => self.say_raw(link, Bytes::from_static(&[0xff; 8])),
            Attack::HelloTwice => {
                let name = "again".to_owned();
                self.say(link, &Message::Hello { session: 1, name });
            }
            Attack::Churn => {
                let outcome = Leave::Completed;
                self.say(link, &Message::Leave { outcome });
            }
            Attack::OtherRole => {
                self.say(link, &Message::Withdrawn);
            }
            Attack::Replay => {
                let frame = self.say(link, &Message::Have { done: 1, total: 2 });
                self.say_raw(link, frame);
            }
            Attack::Stranger | Attack::Guesses | Attack::Garbage | Attack::Mute => {}
            flood => {
                for number in 0..MANY {
                    self.say(link, &one_of(flood, number, files));
                }
            }
        }
    }
}

/// One message of a flood.
fn one_of(attack: Attack, number: u64, files: &[(u32, u64)]) -> Message {
    let file = files.get(usize::try_from(number).unwrap_or_default() % files.len().max(1));
    let (entry, size) = file.copied().unwrap_or_default();
    let whole = Segment {
        entry,
        offset: 0,
        len: u32::try_from(size.min(u64::from(GROUP))).unwrap_or(GROUP),
    };
    let request = |segment| Message::Request {
        id: number,
        segments: vec![segment].into(),
    };
    match attack {
        Attack::BadRanges => request(Segment {
            offset: u64::MAX - u64::from(LEAF) * number,
            ..whole
        }),
        Attack::Overlaps => {
            let first = files.first().copied().unwrap_or_default();
            let len = u32::try_from(first.1.min(u64::from(LEAF))).unwrap_or(LEAF);
            request(Segment {
                entry: first.0,
                offset: 0,
                len,
            })
        }
        Attack::ManifestFlood => Message::GetManifest { offset: 0 },
        Attack::RootFlood => Message::GetRoot { entry },
        Attack::PingFlood => Message::Ping { nonce: number },
        Attack::HaveFlood => Message::Have {
            done: number,
            total: u64::MAX,
        },
        _ => request(whole),
    }
}
