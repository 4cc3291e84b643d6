//! Puppets: they know the wire and the secret, and keep no promise but the scenario's.

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
use handover_core::message::{self, Knock, KnockReply, Message};
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

/// How long a puppet waits for what should come at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// Something that a puppet says.
#[derive(Debug, Clone)]
pub enum Say {
    /// A message and its payload, sealed as it should be.
    Sealed(Message, Bytes),
    /// These bytes, as they are.
    Raw(Bytes),
    /// A sealed message that its receiver must see through: it weighs so much. A bad piece weighs one, anything else
    /// is enough by itself.
    Lie(Message, Bytes, u32),
    /// Nothing more: the link is dropped.
    HangUp,
}

/// Turns what an honest sharer would say into what this one says.
type Twist = Box<dyn FnMut(Message, Bytes) -> Vec<Say>>;

/// Someone without an engine.
pub(crate) struct Puppet {
    keys: Keypair,
    /// Whether it takes what it is sent.
    pub(crate) reads: bool,
    links: BTreeMap<LinkId, PuppetLink>,
    sharer: Option<Sharer>,
    twist: Option<Twist>,
    attacker: Option<Attacker>,
    /// What it answers to a proof of a short code's words.
    stand_in: StandIn,
}

/// A puppet's end of a link.
#[derive(Debug)]
pub struct PuppetLink {
    peer: PeerId,
    listens: bool,
    next_seq: u64,
    told: Vec<u32>,
    /// Frames that came without keys.
    pub plain: Vec<Bytes>,
    /// Frames that came with keys.
    pub frames: Vec<Frame>,
    /// The other side is gone.
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
    /// A puppet on the local network.
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

    /// A puppet takes nothing more of what it is sent.
    pub fn stop_reading(&mut self, puppet: HostId) {
        self.puppet_mut(puppet).reads = false;
    }

    /// A puppet connects to a host; returns its end once the link stands.
    pub fn puppet_dials(&mut self, puppet: HostId, host: HostId) -> LinkId {
        let before = self.puppet(puppet).links.keys().next_back().copied();
        let route = self.route_to(host);
        self.connect(puppet, None, host, route);
        let newest = move |world: &Self| world.puppet(puppet).links.keys().next_back().copied();
        assert!(self.run_until(|world| newest(world) != before, PATIENCE));
        newest(self).expect("a link that stands")
    }

    /// A puppet proves a share's secret on a link, and has keys then.
    pub fn puppet_knocks(&mut self, puppet: HostId, link: LinkId, secret: &ShareSecret) {
        let seed = self.draw();
        let state = &self.puppet(puppet).links[&link];
        let (psk, tag, local) = (secret.psk(), secret.tag(), self.peer(puppet));
        let (initiator, noise) = Initiator::new(&psk, &tag, &local, &state.peer, seed);
        let knock = Knock {
            version: VERSION,
            name: handshake::name_in_knock(&tag, &local, &state.peer, &noise),
            noise,
        };
        self.say_raw(link, plain(&message::encode(&knock)));
        let answered = |world: &Self| !world.puppet_link(link).plain.is_empty();
        assert!(self.run_until(answered, PATIENCE), "no reply to a knock");
        let reply: KnockReply =
            message::decode(&self.puppet_link(link).plain[0]).expect("a reply to a knock");
        let KnockReply::Noise(noise) = reply else {
            panic!("a puppet with the secret is refused: {reply:?}");
        };
        let keys = initiator.finish(&noise).expect("the sharer has the secret");
        let end = self.ends.get_mut(&link).expect("it stands");
        end.wire.key(keys, MAX_SEALED_FRAME, &mut self.nonces);
        self.puppet_reads(link);
    }

    /// A puppet joins a share as a receiver: dials, knocks and greets.
    pub fn puppet_joins(&mut self, puppet: HostId, host: HostId, ticket: &Ticket) -> LinkId {
        let link = self.puppet_dials(puppet, host);
        self.puppet_knocks(puppet, link, &ticket.secret);
        let (session, name) = (link.0, "puppet".to_owned());
        self.say(link, &Message::Hello { session, name });
        link
    }

    /// A puppet seals and sends a message without a payload. Returns the frame.
    pub fn say(&mut self, link: LinkId, message: &Message) -> Bytes {
        self.say_with(link, message, b"")
    }

    /// A puppet seals and sends a message.
    pub fn say_with(&mut self, link: LinkId, message: &Message, payload: &[u8]) -> Bytes {
        let Some(end) = self.ends.get_mut(&link) else {
            return Bytes::new(); // The other side is gone; a puppet does not mind.
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

    /// A puppet sends bytes as they are.
    pub fn say_raw(&mut self, link: LinkId, bytes: impl Into<Bytes>) {
        if let Some(end) = self.ends.get_mut(&link) {
            end.wire.put(bytes.into());
            self.flush(link);
        }
    }

    /// A puppet's end of a link, the other side of which may be gone.
    pub fn puppet_link(&self, link: LinkId) -> &PuppetLink {
        let puppets = self.places.iter().filter_map(|place| match place {
            Place::Puppet(puppet) => Some(puppet),
            Place::Host(_) => None,
        });
        let mut links = puppets.filter_map(|puppet| puppet.links.get(&link));
        links.next().expect("a puppet's link")
    }

    /// Takes in what came over a puppet's link.
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
                    return; // What follows is sealed with keys that are on their way.
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
