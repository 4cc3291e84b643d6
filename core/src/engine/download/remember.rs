//! A receiver that would remember its sharer: it says so where it is welcome, and keeps what is answered until all is
//! here.

use super::super::context::Context;
use super::super::remember::Remembering;
use super::super::{Event, LinkId, Violation};
use super::{Download, Stage};
use crate::message::SecretBytes;

impl Download {
    /// A link is welcome: the sharer is told on it that it would be remembered.
    pub(super) fn offer_to_remember(
        &mut self,
        cx: &mut Context,
        link: LinkId,
    ) -> Result<(), Violation> {
        let fetching = self.links.get_mut(link);
        if let (Some(ours), Some(fetching)) = (&self.remembering, fetching) {
            fetching.said.ask()?;
            cx.send(link, ours.message());
        }
        Ok(())
    }

    /// The sharer would remember this side.
    pub(super) fn remembered(
        &mut self,
        cx: &Context,
        link: LinkId,
        half: &SecretBytes,
    ) -> Result<(), Violation> {
        let Some(fetching) = self.links.get_mut(link) else {
            return Ok(());
        };
        fetching.said.answer()?;
        let peer = cx.links.get(link).map(|link| link.peer);
        if let (Some(ours), Some(peer)) = (&mut self.remembering, peer) {
            ours.told(&cx.peer, &peer, half);
        }
        Ok(())
    }

    /// All is here: what was agreed on counts.
    pub(super) fn tell_agreed(&mut self, cx: &mut Context) {
        let agreed = self.remembering.take().and_then(Remembering::agreed);
        let Stage::Transfer(transfer) = &self.stage else {
            return;
        };
        if let (Some(secret), Some(peer)) = (agreed, self.order.source.peer) {
            let name = transfer.signed.manifest().author().to_string();
            cx.event(Event::Paired { peer, name, secret });
        }
    }
}
