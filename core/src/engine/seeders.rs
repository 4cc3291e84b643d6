//! Peers that say that they serve a share, and the messages that tell our receivers about them.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use serde_bytes::ByteBuf;

use super::LinkId;
use super::context::Context;
use crate::message::{MAX_PEER_ADDRESSES, MAX_PEERS, Message, PeerAt};
use crate::time::Time;
use crate::{Multiaddr, PeerId, dial};

/// Maximum number of seeders remembered.
const MOST: usize = 64;
/// Delay before news is sent, so that more can join the same message.
const TELL_AFTER: Duration = Duration::from_millis(300);
/// Time that a seeder without a link to us is still named to others, since it may still serve.
const KEPT: Duration = Duration::from_mins(5);

/// Known seeders, and how much of the news each link has been sent.
#[derive(Default)]
pub(super) struct Seeders {
    known: BTreeMap<PeerId, Seeder>,
    /// Number of news items so far.
    news: u64,
    /// The peer and the number of news items already sent, by link.
    told: BTreeMap<LinkId, (PeerId, u64)>,
    /// Time at which news is sent. `None` if every link has all of it.
    due: Option<Time>,
}

struct Seeder {
    addresses: Vec<Multiaddr>,
    /// Time at which the seeder is forgotten. Never, while it has a link to us.
    until: Time,
}

impl Seeders {
    /// Number of known seeders.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Adds a link to a receiver.
    pub(super) fn link_up(&mut self, cx: &Context, link: LinkId) {
        self.sweep(cx);
        if let Some(peer) = cx.links.get(link).map(|link| link.peer) {
            self.told.insert(link, (peer, 0));
        }
        // A new receiver gets the known seeders at once, without waiting for more.
        if !self.known.is_empty() {
            self.due = Some(cx.now);
        }
    }

    /// Removes closed links and expired seeders.
    fn sweep(&mut self, cx: &Context) {
        let gone = |link: &LinkId| cx.links.get(*link).is_none();
        for (_, (peer, _)) in self.told.extract_if(.., |link, _| gone(link)) {
            if let Some(seeder) = self.known.get_mut(&peer) {
                seeder.until = cx.now + KEPT;
            }
        }
        self.known.retain(|_, seeder| seeder.until > cx.now);
    }

    /// Notes that a receiver says that it serves at these addresses.
    pub(super) fn heard(&mut self, cx: &Context, link: LinkId, addresses: Vec<Multiaddr>) {
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            return;
        };
        let has_room = self.known.len() < MOST || self.known.contains_key(&peer);
        let known = self.known.get(&peer).map(|seeder| &seeder.addresses);
        if addresses.is_empty() || !has_room {
            return;
        }
        let new = known != Some(&addresses);
        let until = Time::NEVER;
        self.known.insert(peer, Seeder { addresses, until });
        if new {
            self.news += 1;
            self.tell_soon(cx.now);
        }
    }

    /// Removes a seeder, so that no more receivers are told of it.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.known.remove(&peer);
    }

    /// Removes a link whose peer broke the protocol, and that peer.
    pub(super) fn blamed(&mut self, link: LinkId) {
        if let Some((peer, _)) = self.told.remove(&link) {
            self.forget(peer);
        }
    }

    fn tell_soon(&mut self, now: Time) {
        self.due.get_or_insert(now + TELL_AFTER);
    }

    pub(super) fn deadline(&self) -> Time {
        self.due.unwrap_or(Time::NEVER)
    }

    /// Sends news to the links that lack it. With `relayed_only`, only relayed addresses are passed on.
    pub(super) fn tick(&mut self, cx: &mut Context, relayed_only: bool) {
        if self.due.is_none_or(|due| cx.now < due) {
            return;
        }
        self.due = None;
        self.sweep(cx);
        let may = |address: &Multiaddr| !relayed_only || dial::is_relayed(address);
        for (link, (to, told)) in &mut self.told {
            if std::mem::replace(told, self.news) == self.news {
                continue;
            }
            let others = self.known.iter().filter(|(peer, _)| *peer != to);
            let mut others: Vec<PeerAt> = others
                .filter_map(|(peer, seeder)| peer_at(*peer, &seeder.addresses, may))
                .collect();
            // Each link gets a random selection, so that not all receivers use the same few seeders.
            while others.len() > MAX_PEERS {
                let at = cx.rng().next_u64() % others.len() as u64;
                others.swap_remove(usize::try_from(at).unwrap_or(0));
            }
            if !others.is_empty() {
                let peers = others.into();
                cx.send(*link, Message::Peers { peers });
            }
        }
    }
}

fn peer_at(
    peer: PeerId,
    addresses: &[Multiaddr],
    may: impl Fn(&Multiaddr) -> bool,
) -> Option<PeerAt> {
    let addresses = addresses.iter().filter(|address| may(address));
    let addresses: Vec<_> = addresses
        .map(|address| ByteBuf::from(address.to_vec()))
        .take(MAX_PEER_ADDRESSES)
        .collect();
    (!addresses.is_empty()).then(|| PeerAt {
        peer: ByteBuf::from(peer.to_bytes()),
        addresses: addresses.into(),
    })
}
