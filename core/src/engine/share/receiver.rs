//! One link of a receiver: what is served on it, and what was told on it.

use super::super::context::Context;
use super::super::remember::Said;
use super::super::serving::Serving;
use super::super::{LinkId, Violation};
use super::ahead::Ahead;
use super::content::Content;
use super::patience::Pace;

/// One link of a receiver.
#[derive(Default)]
pub(super) struct ReceiverLink {
    pub(super) serving: Serving,
    /// Roots that were requested in bulk.
    pub(super) ahead: Ahead,
    /// The rate limit last told on this link.
    pub(super) told_pace: Pace,
    /// State of pairing on this link.
    pub(super) said: Said,
}

impl ReceiverLink {
    /// Handles a bulk request for roots.
    pub(super) fn want_roots(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        range: (u32, u32),
        content: &Content,
    ) -> Result<(), Violation> {
        self.ahead.want(range, content, &cx.limits)?;
        self.pay_ahead(cx, link, content);
        Ok(())
    }

    /// Sends the known roots among those requested in bulk.
    pub(super) fn pay_ahead(&mut self, cx: &mut Context, link: LinkId, content: &Content) {
        self.ahead.pay(cx, link, content, &mut self.serving.told);
    }
}
