//! Attacks: what a malicious receiver does to an honest sharer.

use std::collections::BTreeMap;

use bytes::Bytes;
use handover_core::engine::{LinkId, Segment, VERSION};
use handover_core::frame::plain;
use handover_core::handshake::Initiator;
use handover_core::limits::{GROUP, LEAF, MAX_SEALED_FRAME};
use handover_core::message::{self, Knock, KnockReply, Leave, Message};
use handover_core::secret::ShareSecret;
use handover_transports::memory::HostId;
use serde::{Deserialize, Serialize};

use crate::World;
use crate::ledger::{Fault, happened, promise};

/// A way to attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attack {
    /// Requests without end.
    RequestFlood,
    /// The same range again and again.
    Overlaps,
    /// Ranges that are not there.
    BadRanges,
    /// Requests, and nothing that comes is ever read.
    NeverReads,
    /// Knocks without the secret.
    Stranger,
    /// Bytes that are no knock.
    Garbage,
    /// Connects and says nothing.
    Mute,
    /// A frame of four gigabytes is announced.
    HugeFrame,
    /// The manifest, again and again.
    ManifestFlood,
    /// Roots, again and again.
    RootFlood,
    /// Pings without end.
    PingFlood,
    /// Reports of progress without end.
    HaveFlood,
    /// Greets twice.
    HelloTwice,
    /// Says that it has everything, and comes again.
    Churn,
    /// Sends what a sharer sends.
    OtherRole,
    /// Sends its own frames a second time.
    Replay,
}

impl Attack {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::RequestFlood,
        Self::Overlaps,
        Self::BadRanges,
        Self::NeverReads,
        Self::Stranger,
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

    /// Whether whoever is attacked must end the link.
    pub fn must_end(self) -> bool {
        !matches!(self, Self::Overlaps | Self::NeverReads | Self::RequestFlood)
    }
}

/// Messages of one attack over one link.
const MANY: u64 = 300;

/// What an attacking puppet knows.
pub(super) struct Attacker {
    attack: Attack,
    secret: ShareSecret,
    /// Entries of the share with bytes, and how many.
    files: Vec<(u32, u64)>,
    /// Handshakes under way.
    knocking: BTreeMap<LinkId, Initiator>,
    begun: bool,
}

impl World {
    /// A puppet attacks a share on a host, over a new link.
    pub fn puppet_attacks(
        &mut self,
        puppet: HostId,
        host: HostId,
        attack: Attack,
        secret: &ShareSecret,
        files: &[(u32, u64)],
    ) {
        if !self.is_running(host) {
            return;
        }
        self.puppet_mut(puppet).attacker = Some(Attacker {
            attack,
            secret: secret.clone(),
            files: files.to_vec(),
            knocking: BTreeMap::new(),
            begun: false,
        });
        if attack == Attack::NeverReads {
            // It reads until it has keys.
            self.puppet_mut(puppet).reads = true;
        }
        let route = self.route_to(host);
        self.connect(puppet, None, host, route);
    }

    /// An attacker's link stands: it knocks, or what it does instead.
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
        let psk = if attacker.attack == Attack::Stranger {
            happened(Fault::Attack);
            ShareSecret::from_bytes(seed).psk()
        } else {
            attacker.secret.psk()
        };
        let (initiator, noise) = Initiator::new(&psk, &tag, &local, &peer, seed);
        attacker.knocking.insert(link, initiator);
        let knock = Knock {
            version: VERSION,
            tag,
            noise,
        };
        self.say_raw(link, plain(&message::encode(&knock)));
    }

    /// A reply to an attacker's knock. Whether the link has keys now.
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
        let reply = message::decode::<KnockReply>(body);
        let (Some(initiator), Ok(KnockReply::Noise(noise))) = (initiator, reply) else {
            return false;
        };
        let keys = initiator.finish(&noise);
        if attack == Attack::Stranger {
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

    /// Something came over an attacker's link. Once it is welcome, the attack begins.
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
        if welcome && !attacker.begun {
            attacker.begun = true;
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
            Attack::Stranger | Attack::Garbage | Attack::Mute => {}
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
