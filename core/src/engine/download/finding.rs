//! Finding and reaching the sharer of a download: by the code's own addresses, neighbours and the DHT, through which
//! relays; and the peers to which the words of a short code may be proved.

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{
    DialId, DiskWork, DownloadError, DownloadId, FetchKey, LinkId, LookUpId, PathKind,
};
use super::lookups::{LookUps, Round};
use super::order::Order;
use super::proofs::{Proofs, Way};
use super::relay_choice::RelayChoice;
use super::search::{Search, Step};
use super::upgrade::Upgrade;
use crate::limits::Limits;
use crate::{Multiaddr, PeerId, dial};

/// State of finding and reaching the sharer.
pub(in super::super) struct Finding {
    /// Active while there is no link, and kept until a link has delivered something.
    pub(super) search: Option<Search>,
    /// Password proofs of a short code's words, until the share's secret is known.
    pub(in super::super) proofs: Proofs,
    /// The relays that may be used.
    pub(super) relays: RelayChoice,
    /// Addresses at which the sharer was found, besides those in the code.
    pub(super) addresses: Vec<Multiaddr>,
    /// Determines which relay is dialled first next time.
    pub(super) turn: usize,
    /// Attempts to get a better path than the one in use.
    pub(super) upgrade: Upgrade,
    /// Why the last link was lost.
    lost: Option<String>,
}

impl Finding {
    pub(super) fn new(order: &Order, limits: &Limits) -> Self {
        let options = &order.options;
        let proofs = match order.source.key {
            FetchKey::Short(_) => Proofs::new(limits.guesses, options.proofs_sent),
            FetchKey::Secret(_) => Proofs::default(),
        };
        Self {
            search: None,
            proofs,
            relays: RelayChoice::new(options.only_relays.as_deref()),
            addresses: Vec::new(),
            turn: 0,
            upgrade: Upgrade::default(),
            lost: None,
        }
    }

    /// Starts to search for the sharer, or resumes the search if the last link delivered nothing. Returns true if it
    /// starts.
    pub(super) fn look(
        &mut self,
        cx: &Context,
        order: &Order,
        last_path: PathKind,
    ) -> Result<bool, DownloadError> {
        if let Some(search) = &mut self.search {
            search.resume(cx.now);
            return Ok(false);
        }
        let options = &order.options;
        let known = order.source.addresses.iter().chain(&self.addresses);
        let known: Vec<_> = known.cloned().collect();
        let vetted = dial::vet(&known, options.loopback, &cx.limits);
        // Without any address there are other ways to find the peer. If there are addresses and all are refused, fails when
        // the DHT is off or loopback is the only reason.
        let own = |(_, why): &(Multiaddr, dial::Refused)| *why == dial::Refused::Loopback;
        let hopeless = !options.dht || vetted.refused.iter().all(own);
        if vetted.dial.is_empty() && !vetted.refused.is_empty() && hopeless {
            let reason = dial::explain_none(&vetted.refused);
            return Err(DownloadError::Unreachable(reason));
        }
        let mut known = vetted.dial;
        known.retain(|address| order.hides_at(address));
        self.relays.sort_out(&mut known);
        let again = self.lost.is_some() && !known.is_empty();
        let lookups = if options.dht {
            LookUps::new(&order.source.key, cx.day, cx.now, again)
        } else {
            LookUps::default()
        };
        let mut patience = order.patience(&cx.limits);
        if self.lost.is_some() && last_path == PathKind::Relayed {
            patience = patience.max(cx.limits.relay_search);
        }
        let target = (order.source.peer, known);
        let search = Search::new(target, lookups, self.turn, cx.now, patience);
        self.search = Some(search.asking_near(!options.relayed_only));
        Ok(true)
    }

    /// Advances the search. Returns the step to take, and why the last dial failed or the last link was lost.
    pub(super) fn step(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
    ) -> Option<(Step, Option<String>)> {
        let search = self.search.as_mut()?;
        let reason = search.last_failure().or_else(|| self.lost.clone());
        Some((search.tick(cx, download, &self.proofs), reason))
    }

    /// True if only relays that the user has not agreed to are left to try.
    pub(super) fn asks_about_relays(&self) -> bool {
        let is_idle = self.search.as_ref().is_some_and(Search::is_idle);
        self.relays.is_in_question() && is_idle
    }

    /// Ends the search: a link has delivered something, or nothing more is wanted.
    pub(super) fn end(&mut self, cx: &mut Context) {
        if let Some(mut search) = self.search.take() {
            search.end(cx);
        }
    }

    /// Records why a link to the sharer was lost.
    pub(super) fn lost(&mut self, reason: String) {
        self.lost = Some(reason);
    }

    /// Handles a keyed link to this peer, which is the sharer.
    pub(super) fn reached(
        &mut self,
        cx: &mut Context,
        dial: DialId,
        sharer: PeerId,
        path: PathKind,
    ) {
        self.upgrade.came(path);
        if let Some(search) = &mut self.search {
            search.rest(cx, dial);
            let known = search.addresses_of(sharer);
            if !known.is_empty() {
                self.addresses = known;
            }
        }
    }

    /// True if an address may be dialled, given which relays may be used and whether this side hides its addresses.
    pub(super) fn may_dial(&self, order: &Order, address: &Multiaddr) -> bool {
        order.hides_at(address) && self.relays.may_use(address)
    }

    /// Returns those addresses of a peer other than the sharer that may be dialled.
    pub(super) fn vet(
        &self,
        order: &Order,
        addresses: &[Multiaddr],
        limits: &Limits,
    ) -> Vec<Multiaddr> {
        let mut vetted = order.vet(addresses, limits);
        vetted.retain(|address| self.relays.may_use(address));
        vetted
    }

    /// Handles a neighbour that may be the sharer.
    pub(super) fn nearby(&mut self, cx: &mut Context, download: DownloadId, peer: PeerId) {
        if let Some(search) = &mut self.search {
            search.nearby(cx, download, peer, &self.proofs);
        }
    }

    /// Handles a peer found by a lookup, reported by the node `by`. The report is unverified. Returns the addresses
    /// that may be dialled.
    pub(super) fn found(
        &mut self,
        cx: &mut Context,
        order: &Order,
        (lookup, peer, by): (LookUpId, PeerId, PeerId),
        addresses: &[Multiaddr],
    ) -> Vec<Multiaddr> {
        let mut vetted = order.vet(addresses, &cx.limits);
        // If the peer is known not to be the sharer, the user is not asked about its relays.
        if order.is_other(peer) {
            vetted.retain(|address| self.relays.may_use(address));
        } else {
            self.relays.sort_out(&mut vetted);
        }
        let answered = self.proofs.is_answered(peer);
        if let Some(search) = self.search.as_mut().filter(|_| !answered) {
            self.proofs.named(peer, by);
            search.found(cx, order.id, peer, &vetted);
            search.found_by(lookup, peer);
        }
        vetted
    }

    /// Records that a lookup has ended. Returns the result of the round if this was its last lookup.
    pub(super) fn looked_up(
        &mut self,
        cx: &Context,
        lookup: LookUpId,
        reached: bool,
    ) -> Option<Round> {
        let search = self.search.as_mut()?;
        search.looked_up(lookup, reached, cx.now)
    }

    /// True if the words of a short code may be proved to this peer, over the link this dial led to.
    pub(in super::super) fn may_prove(&self, peer: PeerId, dial: DialId) -> bool {
        let search = self.search.as_ref();
        let alone = search.is_some_and(|search| search.is_alone(peer, &self.proofs));
        self.proofs.may_send(peer, self.way(dial), alone)
    }

    fn way(&self, dial: DialId) -> Way {
        let way = self.search.as_ref().and_then(|search| search.way(dial));
        way.unwrap_or(Way::Code)
    }

    /// Counts a password proof, before it is sent on this link.
    pub(in super::super) fn prove(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        (link, peer, dial): (LinkId, PeerId, DialId),
    ) {
        self.proofs.send(peer, self.way(dial));
        let owner = JobOwner::Download(download, DownloadJob::CountProof(link));
        let most = cx.limits.guesses;
        cx.disk(owner, DiskWork::CountProof { download, most });
    }

    /// Uncounts a password proof that is not sent.
    pub(in super::super) fn not_proved(cx: &mut Context, download: DownloadId) {
        let owner = JobOwner::Download(download, DownloadJob::ProofNotSent);
        cx.disk(owner, DiskWork::ProofNotSent { download });
    }

    /// Records that the peer knows the words too.
    pub(in super::super) fn proved(
        &mut self,
        cx: &mut Context,
        download: DownloadId,
        sharer: PeerId,
    ) {
        if self.proofs.succeeded(sharer) {
            let owner = JobOwner::Download(download, DownloadJob::ProofSucceeded);
            cx.disk(owner, DiskWork::ProofSucceeded { download, sharer });
        }
    }
}
