//! Scripted peers: they know the wire protocol and the secret, and follow only the scenario.

mod attack;
mod forge;
mod lie;
mod sharer;
mod stand_in;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use handover_core::code::Ticket;
use handover_core::engine::{LinkId, VERSION};
use handover_core::frame::{Frame, plain};
use handover_core::handshake::{self, Initiator};
use handover_core::limits::MAX_SEALED_FRAME;
use handover_core::message::{self, HandshakeReply, HandshakeRequest, Message};
use handover_core::secret::ShareSecret;
use handover_core::{Keypair, PeerId};
use handover_transports::memory::HostId;

use crate::World;
use crate::world::{Place, Route};
pub use attack::Attack;
use attack::Attacker;
pub use forge::EVIL;
pub use lie::Lie;
use sharer::Sharer;
pub use sharer::Sharing;
pub use stand_in::StandIn;

/// Time that a scripted peer waits for what should happen immediately.
const PATIENCE: Duration = Duration::from_mins(1);

/// Something that a scripted peer sends.
#[derive(Debug, Clone)]
pub enum Say {
    /// A correctly sealed message and its payload.
    Sealed(Message, Bytes),
    /// Raw bytes.
    Raw(Bytes),
    /// A sealed message that the receiver must recognise as a lie, with its weight: a bad leaf counts as one, anything
    /// else is enough on its own.
    Lie(Message, Bytes, u32),
    /// Drops the link.
    HangUp,
}

/// Replaces an honest sharer's message by what this one sends.
type Twist = Box<dyn FnMut(Message, Bytes) -> Vec<Say>>;

/// A peer without an engine.
pub(crate) struct Puppet {
    keys: Keypair,
    /// True if it reads what it receives.
    pub(crate) reads: bool,
    links: BTreeMap<LinkId, PuppetLink>,
    sharer: Option<Sharer>,
    twist: Option<Twist>,
    attacker: Option<Attacker>,
    /// How it answers a password proof.
    stand_in: StandIn,
}

/// A scripted peer's end of a link.
#[derive(Debug)]
pub struct PuppetLink {
    peer: PeerId,
    listens: bool,
    next_seq: u64,
    told: Vec<u32>,
    /// Frames received before the link was keyed.
    pub plain: Vec<Bytes>,
    /// Sealed frames received.
    pub frames: Vec<Frame>,
    /// True if the other side is gone.
    pub is_over: bool,
}

impl Puppet {
    pub(crate) fn peer(&self) -> PeerId {
        self.keys.public().to_peer_id()
    }

    pub(crate) fn on_up(&mut self, link: LinkId, peer: PeerId, listens: bool) {
        let state = PuppetLink {
            peer,
            listens,
            next_seq: 0,
            told: Vec::new(),
            plain: Vec::new(),
            frames: Vec::new(),
            is_over: false,
        };
        self.links.insert(link, state);
    }

    pub(crate) fn on_down(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.is_over = true;
        }
    }
}

impl World {
    /// Adds a scripted peer on the local network.
    pub fn add_puppet(&mut self) -> HostId {
        let id = self.network.add_host();
        let puppet = Puppet {
            keys: self.draw_identity(),
            reads: true,
            links: BTreeMap::new(),
            sharer: None,
            twist: None,
            attacker: None,
            stand_in: StandIn::default(),
        };
        self.places.push(Place::Puppet(Box::new(puppet)));
        self.listen(id, Self::address(id), Route::lan());
        id
    }

    /// Makes a scripted peer stop reading.
    pub fn stop_reading(&mut self, puppet: HostId) {
        self.puppet_mut(puppet).reads = false;
    }

    /// Connects a scripted peer to a host. Returns its end once the link is established.
    pub fn puppet_dials(&mut self, puppet: HostId, host: HostId) -> LinkId {
        let before = self.puppet(puppet).links.keys().next_back().copied();
        let route = self.route_to(host);
        self.connect(puppet, None, host, route);
        let newest = move |world: &Self| world.puppet(puppet).links.keys().next_back().copied();
        assert!(self.run_until(|world| newest(world) != before, PATIENCE));
        newest(self).expect("a link that stands")
    }

    /// Performs a handshake with a share's secret on a scripted peer's link, which keys the link.
    pub fn puppet_knocks(&mut self, puppet: HostId, link: LinkId, secret: &ShareSecret) {
        let seed = self.draw();
        let state = &self.puppet(puppet).links[&link];
        let (psk, tag, local) = (secret.psk(), secret.tag(), self.peer(puppet));
        let (initiator, noise) = Initiator::new(&psk, &tag, &local, &state.peer, seed);
        let knock = HandshakeRequest {
            version: VERSION,
            name: handshake::name_in_request(&tag, &local, &state.peer, &noise),
            noise,
        };
        self.say_raw(link, plain(&message::encode(&knock)));
        let answered = |world: &Self| !world.puppet_link(link).plain.is_empty();
        assert!(self.run_until(answered, PATIENCE), "no reply to a knock");
        let reply: HandshakeReply =
            message::decode(&self.puppet_link(link).plain[0]).expect("a reply to a knock");
        let HandshakeReply::Noise(noise) = reply else {
            panic!("a puppet with the secret is refused: {reply:?}");
        };
        let keys = initiator.finish(&noise).expect("the sharer has the secret");
        let end = self.ends.get_mut(&link).expect("it stands");
        end.wire.key(keys, MAX_SEALED_FRAME, &mut self.nonces);
        self.puppet_reads(link);
    }

    /// Makes a scripted peer join a share as a receiver: dial, handshake, greeting.
    pub fn puppet_joins(&mut self, puppet: HostId, host: HostId, ticket: &Ticket) -> LinkId {
        let link = self.puppet_dials(puppet, host);
        self.puppet_knocks(puppet, link, &ticket.secret);
        let (session, name) = (link.0, "puppet".to_owned());
        self.say(link, &Message::Hello { session, name });
        link
    }

    /// Makes a scripted peer seal and send a message without a payload. Returns the frame.
    pub fn say(&mut self, link: LinkId, message: &Message) -> Bytes {
        self.say_with(link, message, b"")
    }

    /// Makes a scripted peer seal and send a message. Returns the frame.
    pub fn say_with(&mut self, link: LinkId, message: &Message, payload: &[u8]) -> Bytes {
        let Some(end) = self.ends.get_mut(&link) else {
            return Bytes::new(); // The other side is gone; a scripted peer ignores that.
        };
        let Place::Puppet(puppet) = &mut self.places[end.place.0 as usize] else {
            panic!("only puppets are made to say something");
        };
        let state = puppet.links.get_mut(&link).expect("a puppet's link");
        let seq = state.next_seq;
        state.next_seq += 1;
        let frame = end.wire.put_sealed(seq, message, payload, &mut self.nonces);
        self.flush(link);
        frame
    }

    /// Makes a scripted peer send raw bytes.
    pub fn say_raw(&mut self, link: LinkId, bytes: impl Into<Bytes>) {
        if let Some(end) = self.ends.get_mut(&link) {
            end.wire.put(bytes.into());
            self.flush(link);
        }
    }

    /// A scripted peer's end of a link, even if the other side is gone.
    pub fn puppet_link(&self, link: LinkId) -> &PuppetLink {
        let puppets = self.places.iter().filter_map(|place| match place {
            Place::Puppet(puppet) => Some(puppet),
            Place::Host(_) => None,
        });
        let mut links = puppets.filter_map(|puppet| puppet.links.get(&link));
        links.next().expect("a puppet's link")
    }

    /// Reads what has arrived on a scripted peer's link.
    pub(crate) fn puppet_reads(&mut self, link: LinkId) {
        while let Some(end) = self.ends.get_mut(&link) {
            end.wire.read(&mut self.network);
            let Ok(Some(body)) = end.wire.next_body() else {
                return;
            };
            let place = end.place;
            if end.wire.is_keyed() {
                let frame = end.wire.open(body).expect("engines seal as they should");
                self.puppet_hears(place, link, frame);
            } else {
                let body = body.freeze();
                let state = self.puppet_mut(place).links.get_mut(&link);
                let state = state.expect("a link that stands");
                state.plain.push(body.clone());
                let listens = state.listens;
                if listens {
                    self.answer_knock(place, link, &body);
                } else if !self.attacker_hears_reply(place, link, &body) {
                    return; // What follows is sealed with keys that are not set yet.
                }
            }
        }
    }

    fn puppet(&self, id: HostId) -> &Puppet {
        match &self.places[id.0 as usize] {
            Place::Puppet(puppet) => puppet,
            Place::Host(_) => panic!("{id:?} is no puppet"),
        }
    }

    fn puppet_mut(&mut self, id: HostId) -> &mut Puppet {
        match &mut self.places[id.0 as usize] {
            Place::Puppet(puppet) => puppet,
            Place::Host(_) => panic!("{id:?} is no puppet"),
        }
    }
}
