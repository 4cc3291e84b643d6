//! Who serves a share beside us, by their own word; and telling that to those who fetch it from us.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use serde_bytes::ByteBuf;

use super::LinkId;
use super::context::Context;
use crate::message::{MAX_PEER_ADDRESSES, MAX_PEERS, Message, PeerAt};
use crate::time::Time;
use crate::{Multiaddr, PeerId, dial};

/// Who is remembered at the most.
const MOST: usize = 64;
/// News wait so long for more.
const TELL_AFTER: Duration = Duration::from_millis(300);
/// Who has no link to us any more may still serve others, and is told of for so long.
const KEPT: Duration = Duration::from_mins(5);

/// Who serves, and which link was told of it.
#[derive(Default)]
pub(super) struct Seeders {
    known: BTreeMap<PeerId, Seeder>,
    /// Counts what is new, and how much of that each link knows.
    news: u64,
    told: BTreeMap<LinkId, (PeerId, u64)>,
    /// When links are told; `None` if all know all.
    due: Option<Time>,
}

struct Seeder {
    addresses: Vec<Multiaddr>,
    /// When it is forgotten, if it has no link to us.
    until: Time,
}

impl Seeders {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// A link to somebody who fetches stands.
    pub(super) fn link_up(&mut self, cx: &Context, link: LinkId) {
        self.sweep(cx);
        if let Some(peer) = cx.links.get(link).map(|link| link.peer) {
            self.told.insert(link, (peer, 0));
        }
        // Who comes now need not wait for those who come after.
        if !self.known.is_empty() {
            self.due = Some(cx.now);
        }
    }

    /// Looks which links are gone, and who is to be forgotten.
    fn sweep(&mut self, cx: &Context) {
        let gone = |link: &LinkId| cx.links.get(*link).is_none();
        for (_, (peer, _)) in self.told.extract_if(.., |link, _| gone(link)) {
            if let Some(seeder) = self.known.get_mut(&peer) {
                seeder.until = cx.now + KEPT;
            }
        }
        self.known.retain(|_, seeder| seeder.until > cx.now);
    }

    /// Somebody who fetches says that it serves too, and where.
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

    /// Nobody is told of this peer any more.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.known.remove(&peer);
    }

    /// Who was on this link broke the protocol.
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

    /// Tells whom there is news for. Who hides passes on only what leads through relays.
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
            // Each is told of others, so that not all go to the same few.
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
