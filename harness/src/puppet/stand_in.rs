//! Impostors: scripted peers found by a short code's number that act as if they had that code. Each password proof that
//! they receive lets them test one guess at the words.

use std::time::Duration;

use bytes::Bytes;
use handover_core::code::ShareCode;
use handover_core::engine::LinkId;
use handover_core::frame::plain;
use handover_core::message::{self, HandshakeReply, Refusal, ShortCodeRequest};
use handover_core::pake::Pake;
use handover_transports::memory::HostId;
use serde::{Deserialize, Serialize};

use crate::World;
use crate::ledger::{Fault, happened};

/// Interval between the bytes of a dripped frame. `DRIPS` is the length of its body.
const DRIP_EVERY: Duration = Duration::from_secs(1);
const DRIPS: usize = 200;

/// How an impostor answers a password proof.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandIn {
    /// Says that the words are wrong.
    #[default]
    Refuses,
    /// Sends nothing.
    Silent,
    /// Says that it is busy.
    Busy,
    /// Says that it has no such share.
    Forgets,
    /// Drops the link.
    HangsUp,
    /// Sends a frame byte by byte.
    Drips,
    /// Sends something that is not a reply.
    Rubbish,
    /// Sends a reply like a peer that has guessed other words.
    Guesses,
    /// Does not even answer the handshake request, so it gets no proof.
    Mute,
}

impl StandIn {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::Refuses,
        Self::Silent,
        Self::Busy,
        Self::Forgets,
        Self::HangsUp,
        Self::Drips,
        Self::Rubbish,
        Self::Guesses,
        Self::Mute,
    ];

    /// The fault that it is counted as.
    fn fault(self) -> Fault {
        match self {
            Self::Refuses => Fault::StandInRefuses,
            Self::Silent => Fault::StandInIsSilent,
            Self::Busy => Fault::StandInIsBusy,
            Self::Forgets => Fault::StandInForgets,
            Self::HangsUp => Fault::StandInHangsUp,
            Self::Drips => Fault::StandInDrips,
            Self::Rubbish => Fault::StandInTalksRubbish,
            Self::Guesses => Fault::StandInGuesses,
            Self::Mute => Fault::StandInIsMute,
        }
    }
}

impl World {
    /// Makes a scripted peer an impostor of short codes' sharers: in the DHT, or only on its local network.
    pub fn stand_in(&mut self, puppet: HostId, how: StandIn, in_dht: bool) {
        self.puppet_mut(puppet).stand_in = how;
        if in_dht {
            let at = (self.peer(puppet), vec![Self::address(puppet)]);
            self.dht.stand_ins.push(at);
        }
    }

    /// Answers a handshake request with a code's number, by guessing the words.
    pub(super) fn guess_words(&mut self, place: HostId, link: LinkId, knock: &ShortCodeRequest) {
        let how = self.puppet(place).stand_in;
        if how == StandIn::Mute {
            return happened(how.fault());
        }
        let guess = format!("{}-amber-otter", knock.number);
        let Ok(ShareCode::Short(code)) = ShareCode::parse(&guess) else {
            panic!("engines knock with numbers of codes");
        };
        let (seed, local) = (self.draw(), self.peer(place));
        let peer = self.puppet(place).links[&link].peer;
        let (_, point) = Pake::sharer(&code, &peer, &local, seed);
        self.reply(link, &HandshakeReply::Point(point));
    }

    /// Answers the password proof that follows.
    pub(super) fn answer_proof(&mut self, place: HostId, link: LinkId) {
        let how = self.puppet(place).stand_in;
        happened(how.fault());
        match how {
            StandIn::Refuses => self.reply(link, &HandshakeReply::Refused(Refusal::WrongWords)),
            StandIn::Silent | StandIn::Mute => {}
            StandIn::Busy => self.reply(link, &HandshakeReply::Refused(Refusal::Busy)),
            StandIn::Forgets => self.reply(link, &HandshakeReply::Refused(Refusal::NoSuchShare)),
            StandIn::HangsUp => self.give_up(link),
            StandIn::Drips => {
                let whole = plain(&[0; DRIPS]);
                self.drip(link, whole);
            }
            StandIn::Rubbish => self.say_raw(link, plain(b"rubbish")),
            StandIn::Guesses => {
                let noise = self.draw();
                self.reply(link, &HandshakeReply::Noise(noise.to_vec()));
            }
        }
    }

    fn drip(&mut self, link: LinkId, mut left: Bytes) {
        if left.is_empty() || !self.ends.contains_key(&link) {
            return;
        }
        let first = left.split_to(1);
        self.say_raw(link, first);
        self.after(DRIP_EVERY, move |world| world.drip(link, left));
    }

    fn reply(&mut self, link: LinkId, reply: &HandshakeReply) {
        self.say_raw(link, plain(&message::encode(reply)));
    }
}
