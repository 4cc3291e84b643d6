//! How a download passes on what it has: what goes to its [serving side](super::seed), and what it hears there.

use super::super::context::Context;
use super::super::{LinkId, PathKind, Violation};
use super::seed::{AlsoServes, Seed};
use super::transfer::Transfer;
use super::{Download, Stage};
use crate::PeerId;
use crate::frame::Frame;
use crate::time::Time;

impl Download {
    /// Its serving side, and what there is to serve.
    pub(in super::super) fn serving(&mut self) -> Option<(&mut Seed, &mut Transfer)> {
        Some((self.seed.as_deref_mut()?, self.stage.transfer_mut()?))
    }

    /// Whether it serves, and one more link would be served.
    pub(in super::super) fn has_room(&self) -> bool {
        self.seed.as_ref().is_some_and(|seed| seed.has_room())
    }

    /// Whether somebody who knows the share's secret may have what is here.
    pub(in super::super) fn serves(&self, peer: PeerId, path: PathKind) -> bool {
        let shunned = self
            .swarm
            .as_ref()
            .is_some_and(|swarm| swarm.is_shunned(peer));
        let may = path == PathKind::Relayed || !self.order.options.relayed_only;
        let stands = matches!(self.stage, Stage::Transfer(_) | Stage::Seeding(_));
        self.seed.is_some() && stands && !self.is_ending() && !shunned && may
    }

    /// Says over a link to a source that this side serves too, and where it can be dialled.
    pub(super) fn say_seeds(&self, cx: &mut Context, link: LinkId) {
        if let Some(seed) = &self.seed {
            seed.tell(cx, link);
        }
    }

    /// A link proved the share's key, to be served.
    pub(in super::super) fn seed_up(&mut self, cx: &mut Context, link: LinkId) {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return;
        };
        if let Some(peer) = seed.link_up(cx, link, transfer) {
            // Who comes for parts may have some; it can be asked over the connection that it has made.
            self.meet_at(cx, peer, Vec::new());
        }
    }

    /// A peer broke the protocol on a link that was served: it is no source either.
    pub(in super::super) fn seed_blamed(&mut self, cx: &mut Context, link: LinkId, peer: PeerId) {
        if let Some((seed, _)) = self.serving() {
            seed.link_down(cx, link);
        }
        self.shun(cx, peer);
    }

    /// Something came over a link that is served.
    pub(in super::super) fn seed_message(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return Ok(());
        };
        let also = seed.message(cx, link, frame, transfer)?;
        if let Some(AlsoServes { peer, addresses }) = also {
            self.meet(cx, peer, &addresses);
        }
        Ok(())
    }

    pub(super) fn seed_deadline(&self) -> Time {
        let (Some(seed), Some(transfer)) = (&self.seed, self.stage.transfer()) else {
            return Time::NEVER;
        };
        let announces = self.order.options.dht && self.order.has_secret();
        let over = self.seeding.as_ref();
        let over = over.map_or(Time::NEVER, |(_, until)| *until);
        seed.deadline(transfer, announces).min(over)
    }

    /// Does what is due about serving.
    pub(super) fn seed_tick(&mut self, cx: &mut Context) {
        let (key, in_dht) = (&self.order.source.key, self.order.options.dht);
        let (Some(seed), Some(transfer)) = (&mut self.seed, self.stage.transfer()) else {
            return;
        };
        seed.tick(cx, transfer, || key.meeting_place().filter(|_| in_dht));
        if self
            .seeding
            .as_ref()
            .is_some_and(|(_, until)| *until <= cx.now)
        {
            self.end_seeding(cx);
        }
    }

    /// Nothing is served any more.
    pub(super) fn end_seed(&mut self, cx: &mut Context) {
        if let Some(seed) = self.seed.take() {
            seed.end(cx);
        }
    }
}
