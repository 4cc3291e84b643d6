//! Messages that tell receivers about a share's rate limit: how much to request at once, and that the share is paused
//! or that their requests wait for the limit. Without them a receiver would take the sharer for stalled.

use std::time::Duration;

use super::super::LinkId;
use super::super::context::Context;
use crate::limits::GROUP;
use crate::message::Message;

/// Rate limit of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Maximum number of bytes that one request should ask for.
    pub(super) piece: u32,
    pub(super) paused: bool,
}

impl Default for Pace {
    /// No limit, which receivers assume until told otherwise.
    fn default() -> Self {
        Self {
            piece: GROUP,
            paused: false,
        }
    }
}

/// Interval between repeated messages: short enough that a receiver with the same limits gets one in time even if one
/// is late.
pub(super) fn every(cx: &Context) -> Duration {
    cx.limits.stalled / 3
}

pub(super) fn say(cx: &mut Context, link: LinkId, pace: Pace) {
    let Pace { piece, paused } = pace;
    cx.send(link, Message::Pace { piece, paused });
}
