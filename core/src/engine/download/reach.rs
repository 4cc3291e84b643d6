//! How a download comes to its peer: by the code's own addresses, who is near, whom the DHT knows, what the peer says of
//! itself over a relay, and connections that came up by themselves. And what it makes of who does not let it in.

use std::time::Duration;

use serde_bytes::ByteBuf;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{DialId, DiskWork, DownloadError, Event, LinkId, LookUpId, PathKind};
use super::Download;
use super::lookups::LookUps;
use super::mates::SEEK_AGAIN;
use super::proofs::Way;
use super::search::{Search, Step};
use crate::message::Refusal;
use crate::time::Time;
use crate::{Multiaddr, PeerId, dial};

/// So many connections that came up by themselves are followed at once if none of them is of use; then one in a while.
const IN_VAIN: u32 = 8;
const REST: Duration = Duration::from_secs(1);

/// How often connections were followed that came up by themselves.
#[derive(Debug, Default)]
pub(super) struct Followed {
    times: u32,
    last: Time,
}

impl Followed {
    /// Whether one more may be. Without a bound a link over a worse connection, closed as it is of no use, leads to the next
    /// connection and the next link.
    pub(super) fn may(&mut self, now: Time) -> bool {
        if self.times >= IN_VAIN && now < self.last + REST {
            return false;
        }
        self.times += 1;
        self.last = now;
        true
    }
}

/// How a better path may be come by: each way is tried once at a time, and once more if there was news meanwhile.
#[derive(Debug, Default)]
pub(super) struct Better {
    /// Where the peer says that it can be dialled without a relay.
    told: Vec<Multiaddr>,
    dials: Attempt,
    /// Connections that came up by themselves.
    paths: Attempt,
    followed: Followed,
}

/// One way.
#[derive(Debug, Default)]
struct Attempt {
    dial: Option<DialId>,
    again: bool,
}

impl Attempt {
    /// Whether it may begin now; if not, it is begun again after.
    fn begins(&mut self) -> bool {
        self.again = self.dial.is_some();
        !self.again
    }

    /// Whether that was its dial, and it is to be begun again.
    fn over(&mut self, dial: DialId) -> bool {
        let ours = self.dial.take_if(|own| *own == dial).is_some();
        ours && std::mem::take(&mut self.again)
    }
}

impl Better {
    /// A link came up, by whatever dial: if that was one of these, it is over. What comes later is weighed anew.
    pub(super) fn came(&mut self, path: PathKind) {
        if path != PathKind::Relayed {
            *self = Self::default();
        }
    }
}

impl Download {
    /// Looks for the peer: from the beginning, or on if the last link brought nothing.
    pub(super) fn look(&mut self, cx: &mut Context) {
        if let Some(search) = &mut self.search {
            search.resume(cx.now);
            return;
        }
        let known = self.source.addresses.iter().chain(&self.known);
        let known: Vec<_> = known.cloned().collect();
        let vetted = dial::vet(&known, self.options.loopback, &cx.limits);
        // Without any address there are other ways to find the peer; what the code has must not be all refused.
        let own = |(_, why): &(Multiaddr, dial::Refused)| *why == dial::Refused::Loopback;
        let hopeless = !self.options.dht || vetted.refused.iter().all(own);
        if vetted.dial.is_empty() && !vetted.refused.is_empty() && hopeless {
            let reason = dial::explain_none(&vetted.refused);
            return self.fail(cx, DownloadError::Unreachable(reason));
        }
        let mut known = vetted.dial;
        known.retain(|address| self.hides_at(address));
        self.relays.sort_out(&mut known);
        let again = self.lost.is_some() && !known.is_empty();
        let lookups = if self.options.dht {
            LookUps::new(&self.source.key, cx.day, cx.now, again)
        } else {
            LookUps::default()
        };
        let mut patience = self.options.search.unwrap_or(cx.limits.search);
        if self.lost.is_some() && self.links.last_path == PathKind::Relayed {
            patience = patience.max(cx.limits.relay_search);
        }
        let target = (self.source.peer, known);
        let search = Search::new(target, lookups, self.turn, cx.now, patience);
        self.search = Some(search.asking_near(!self.options.relayed_only));
        self.search_on(cx);
    }

    pub(super) fn search_on(&mut self, cx: &mut Context) {
        let Some(search) = &mut self.search else {
            return;
        };
        let reason = search.last_failure().or_else(|| self.lost.clone());
        let step = search.tick(cx, self.id, &self.proofs);
        if self.relays.is_in_question() && search.is_idle() && !self.has_mates() {
            return self.ask_about_relays(cx);
        }
        match step {
            Step::Wait => {}
            // While others serve, the sharer is looked for quietly, and again after a while.
            Step::Attempt(_) if self.has_mates() => {}
            Step::GiveUp(_) if self.has_mates() => {
                super::end_search(&mut self.search, cx);
                self.seek_due = Some(cx.now + SEEK_AGAIN);
            }
            Step::Attempt(attempt) => cx.event(Event::Connecting {
                download: self.id,
                attempt,
                reason,
            }),
            Step::WrongWords => self.fail(cx, DownloadError::WrongWords),
            Step::NoMoreProofs => self.fail(cx, DownloadError::NoMoreProofs),
            Step::GiveUp(reason) => self.fail(cx, DownloadError::Unreachable(reason)),
        }
    }

    /// Nothing is left to be tried but relays that the user has not agreed to. The search goes on when they do.
    fn ask_about_relays(&mut self, cx: &mut Context) {
        super::end_search(&mut self.search, cx);
        let (download, relays) = (self.id, self.relays.ask());
        cx.event(Event::RelaysInQuestion { download, relays });
    }

    /// The user agrees to these relays.
    pub(in super::super) fn use_relays(&mut self, cx: &mut Context, relays: &[PeerId]) {
        self.relays.agree(relays);
        if self.search.is_none() && self.links.is_empty() && !self.is_ending() {
            self.look(cx);
        }
    }

    /// A dial failed, or its link did before it had keys.
    pub(in super::super) fn dial_failed(&mut self, cx: &mut Context, dial: DialId, reason: String) {
        if let Some(swarm) = &mut self.swarm
            && swarm.dial_over(dial, cx.now)
        {
            return;
        }
        if self.deputy_failed(cx, dial) {
            return;
        }
        if self.circuit_failed(cx, dial) {
            return;
        }
        self.upgrade_over(cx, dial);
        if let Some(search) = &mut self.search {
            search.failed(dial, reason, cx.now);
            self.search_on(cx);
        }
    }

    /// Whether a link that comes up now would be of use.
    pub(in super::super) fn wants_link(&self, cx: &Context, path: PathKind) -> bool {
        let best = self.links.best.and_then(|link| cx.links.get(link));
        let may = path == PathKind::Relayed || !self.options.relayed_only;
        !self.is_ending() && may && best.is_none_or(|best| path < best.path)
    }

    /// The sharer does not let us in.
    pub(in super::super) fn refused(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        dial: DialId,
        refusal: Refusal,
    ) {
        match refusal {
            Refusal::WrongWords => self.proofs.refused_words(peer),
            // Who refuses before a proof may be asked again.
            _ if self.proofs.is_awaited(peer) => self.proofs.answered(peer),
            _ => {}
        }
        let swarm = self.swarm.as_ref();
        let mate = swarm.is_some_and(|swarm| swarm.dialled(dial).is_some());
        // Who is near was asked before it was known who the sharer is, and answers after.
        let other = self.source.peer.is_some_and(|own| own != peer);
        if mate || other || self.deputy.dialled(dial).is_some() {
            return self.dial_failed(cx, dial, "it does not serve this".into());
        }
        // Whoever is near is asked: most of them have something else, or nothing.
        let anybody = self.source.peer.is_none() && self.source.addresses.is_empty();
        match refusal {
            Refusal::NoSuchShare if anybody => {
                self.dial_failed(cx, dial, "nobody who was found has this code".into());
            }
            Refusal::Version if anybody => {
                let reason = "somebody speaks another version of the protocol";
                self.dial_failed(cx, dial, reason.into());
            }
            Refusal::NoSuchShare => self.sharer_gone(cx, DownloadError::NoSuchShare),
            Refusal::WrongWords if self.search.is_none() => {
                self.fail(cx, DownloadError::WrongWords);
            }
            // Two may have one number.
            Refusal::WrongWords => {
                self.dial_failed(cx, dial, "somebody has this code with other words".into());
            }
            Refusal::Version => self.fail(
                cx,
                DownloadError::Violation(
                    "it speaks another version of the protocol; update both sides".into(),
                ),
            ),
            Refusal::Busy => self.dial_failed(cx, dial, "the other side is busy".into()),
        }
    }

    /// Whether this side may show itself at an address.
    pub(super) fn may_dial(&self, address: &Multiaddr) -> bool {
        self.hides_at(address) && self.relays.may_use(address)
    }

    /// Whether the other side does not see where this one is, if that hides, when an address is dialled.
    fn hides_at(&self, address: &Multiaddr) -> bool {
        !self.options.relayed_only || dial::is_relayed(address)
    }

    /// Somebody is on the local network who may be the peer.
    pub(in super::super) fn nearby(&mut self, cx: &mut Context, peer: PeerId) {
        if let Some(search) = &mut self.search {
            search.nearby(cx, self.id, peer, &self.proofs);
        }
        if let (true, Some(addresses)) = (self.options.seed, cx.nearby.get(&peer).cloned()) {
            self.meet(cx, peer, &addresses);
        }
    }

    /// A look-up has found somebody. What it says of them is anybody's word.
    pub(in super::super) fn found(
        &mut self,
        cx: &mut Context,
        lookup: LookUpId,
        (peer, by): (PeerId, PeerId),
        addresses: &[Multiaddr],
    ) {
        if self.is_ending() || peer == cx.peer {
            return;
        }
        let mut vetted = dial::vet(addresses, self.options.loopback, &cx.limits).dial;
        vetted.retain(|address| self.hides_at(address));
        // Where it is known who that is, others' relays are nobody's business.
        if self.source.peer.is_none_or(|own| own == peer) {
            self.relays.sort_out(&mut vetted);
        } else {
            vetted.retain(|address| self.relays.may_use(address));
        }
        let answered = self.proofs.is_answered(peer);
        if let Some(search) = self.search.as_mut().filter(|_| !answered) {
            self.proofs.named(peer, by);
            search.found(cx, self.id, peer, &vetted);
            search.found_by(lookup, peer);
        }
        self.meet_at(cx, peer, vetted);
    }

    /// Whether the words of a short code may be proved to this peer, over what this dial led to.
    pub(in super::super) fn may_prove(&self, peer: PeerId, dial: DialId) -> bool {
        let search = self.search.as_ref();
        let alone = search.is_some_and(|search| search.is_alone(peer, &self.proofs));
        self.proofs.may_send(peer, self.way(dial), alone)
    }

    fn way(&self, dial: DialId) -> Way {
        let way = self.search.as_ref().and_then(|search| search.way(dial));
        way.unwrap_or(Way::Code)
    }

    /// They are: that is counted before the proof goes out on this link.
    pub(in super::super) fn prove(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        peer: PeerId,
        dial: DialId,
    ) {
        self.proofs.send(peer, self.way(dial));
        let owner = JobOwner::Download(self.id, DownloadJob::CountProof(link));
        let download = self.id;
        let most = cx.limits.guesses;
        cx.disk(owner, DiskWork::CountProof { download, most });
    }

    /// A proof has been counted, and with it this device has sent so many: whether it may go out.
    pub(in super::super) fn proof_counted(&mut self, sent: u32) -> bool {
        self.proofs.counted(sent)
    }

    /// A proof that was counted does not go out.
    pub(in super::super) fn proof_not_sent(&mut self, cx: &mut Context) {
        let owner = JobOwner::Download(self.id, DownloadJob::ProofNotSent);
        let download = self.id;
        cx.disk(owner, DiskWork::ProofNotSent { download });
    }

    /// The peer knows the words too.
    pub(in super::super) fn proved(&mut self, cx: &mut Context, sharer: PeerId) {
        if self.proofs.succeeded(sharer) {
            let owner = JobOwner::Download(self.id, DownloadJob::ProofSucceeded);
            let download = self.id;
            cx.disk(owner, DiskWork::ProofSucceeded { download, sharer });
        }
    }

    /// The peer has answered a proof with something else than it should.
    pub(in super::super) fn proof_answered(&mut self, peer: PeerId) {
        self.proofs.answered(peer);
    }

    /// The link is gone on which the answer to a proof was awaited.
    pub(in super::super) fn proof_broke(&mut self, peer: PeerId) {
        self.proofs.broke(peer);
    }

    /// A look-up has ended.
    pub(in super::super) fn looked_up(
        &mut self,
        cx: &mut Context,
        lookup: LookUpId,
        reached: bool,
    ) {
        if self.looked_for_mates(lookup) {
            return;
        }
        let Some(search) = &mut self.search else {
            return;
        };
        if let Some(round) = search.looked_up(lookup, reached, cx.now) {
            cx.event(Event::NotFound {
                download: self.id,
                reached: round.reached,
                day: cx.day.filter(|_| round.all_days),
            });
        }
        self.search_on(cx);
    }

    /// This side can be reached elsewhere now: peers behind relays are told.
    pub(in super::super) fn reachable(&mut self, cx: &mut Context) {
        for link in self.links.ids() {
            self.tell_addresses(cx, link);
            if self.swarm.is_some() {
                self.say_seeds(cx, link);
            }
        }
    }

    pub(super) fn tell_addresses(&self, cx: &mut Context, link: LinkId) {
        if !self.options.relayed_only {
            cx.tell_addresses(link, self.options.loopback);
        }
    }

    /// The sharer says over a relay where it can be dialled without one.
    pub(super) fn told_addresses(&mut self, cx: &mut Context, link: LinkId, told: &[ByteBuf]) {
        let wanted = self.wants_link(cx, PathKind::Direct);
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            return;
        };
        if self.links.is_to_mate(link) {
            let told = cx.vet_told(told, self.options.loopback);
            return self.mate_told(cx, peer, told);
        }
        let told = cx.vet_told(told, self.options.loopback);
        if !wanted || self.options.relayed_only || told.is_empty() || told == self.better.told {
            return;
        }
        self.better.told = told;
        self.dial_told(cx, peer);
    }

    fn dial_told(&mut self, cx: &mut Context, peer: PeerId) {
        if self.better.dials.begins() {
            let addresses = self.better.told.clone();
            self.better.dials.dial = Some(cx.dial(self.id, Some(peer), addresses));
        }
    }

    /// A dial has come to nothing: what was learnt meanwhile is tried.
    fn upgrade_over(&mut self, cx: &mut Context, dial: DialId) {
        let told = self.better.dials.over(dial);
        let paths = self.better.paths.over(dial);
        let Some(peer) = self.source.peer.filter(|_| !self.is_ending()) else {
            return;
        };
        if told && self.wants_link(cx, PathKind::Direct) {
            self.dial_told(cx, peer);
        }
        if paths && self.wants_link(cx, PathKind::Direct) {
            self.dial_path(cx, peer);
        }
    }

    /// A connection to the peer came up by itself: this side was called back, or a hole was punched. If that is better
    /// than what is in use, a link is opened over it.
    pub(in super::super) fn path(&mut self, cx: &mut Context, peer: PeerId, path: PathKind) {
        self.mate_path(cx, peer, path);
        let ours = self.source.peer == Some(peer) && self.links.has_sharer();
        if ours && self.wants_link(cx, path) {
            self.dial_path(cx, peer);
        }
    }

    fn dial_path(&mut self, cx: &mut Context, peer: PeerId) {
        if self.better.paths.begins() && self.better.followed.may(cx.now) {
            self.better.paths.dial = Some(cx.dial(self.id, Some(peer), Vec::new()));
        }
    }
}
