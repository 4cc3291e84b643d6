//! What receivers are told while a share holds back: how much to ask for at once, and that it is paused, or that what
//! they asked for waits for a limit. So nobody takes the sharer for one that has stopped.

use std::time::Duration;

use super::super::LinkId;
use super::super::context::Context;
use crate::limits::GROUP;
use crate::message::Message;

/// How a share holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Bytes that one request should ask for at the most.
    pub(super) piece: u32,
    pub(super) paused: bool,
}

impl Default for Pace {
    /// Not at all: what nobody needs to be told.
    fn default() -> Self {
        Self {
            piece: GROUP,
            paused: false,
        }
    }
}

/// Often enough that a receiver with the same limits hears it in time, though one is late.
pub(super) fn every(cx: &Context) -> Duration {
    cx.limits.stalled / 3
}

pub(super) fn say(cx: &mut Context, link: LinkId, pace: Pace) {
    let Pace { piece, paused } = pace;
    cx.send(link, Message::Pace { piece, paused });
}
