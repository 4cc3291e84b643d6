//! What receivers are told while a share holds back: how much to ask for at once, and that it is paused, or that what
//! they asked for waits for a limit. So nobody takes the sharer for one that has stopped.

use std::time::Duration;

use super::super::LinkId;
use super::super::context::Context;
use super::super::gate::TransferId;
use super::Share;
use crate::limits::GROUP;
use crate::message::Message;
use crate::time::Time;

/// How a share holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Pace {
    /// Bytes that one request should ask for at the most.
    piece: u32,
    paused: bool,
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

impl Share {
    /// Stops answering requests, or goes on. What is being read is still sent.
    pub(in super::super) fn pause(&mut self, cx: &mut Context, paused: bool) {
        if self.ended.is_none() && self.paused != paused {
            self.paused = paused;
            self.tell_pace(cx);
            self.pump(cx);
        }
    }

    fn pace(&self, cx: &Context) -> Pace {
        Pace {
            piece: cx.up.piece(TransferId::Share(self.id)),
            paused: self.paused,
        }
    }

    /// Tells all receivers what is new about it.
    pub(in super::super) fn tell_pace(&mut self, cx: &mut Context) {
        let links: Vec<_> = self.serving.keys().copied().collect();
        for link in links {
            self.tell_pace_to(cx, link);
        }
    }

    /// Tells one, once it has been welcomed.
    pub(super) fn tell_pace_to(&mut self, cx: &mut Context, link: LinkId) {
        let pace = self.pace(cx);
        if self.content.is_some()
            && let Some(serving) = self.serving.get_mut(&link)
            && serving.told_pace != pace
        {
            serving.told_pace = pace;
            say(cx, link, pace);
        }
    }

    /// Asks for more patience, now and then, where requests wait.
    pub(super) fn ask_for_patience(&mut self, cx: &mut Context) {
        let pace = self.pace(cx);
        let holds = self.paused || cx.up.rate(TransferId::Share(self.id)).is_some();
        let waiting = self.serving.iter().filter(|(_, serving)| serving.waits());
        let waiting: Vec<_> = waiting.map(|(link, _)| *link).collect();
        if !holds || waiting.is_empty() {
            self.patience_due = Time::NEVER;
        } else if self.patience_due == Time::NEVER {
            self.patience_due = cx.now + every(cx);
        } else if self.patience_due <= cx.now {
            self.patience_due = cx.now + every(cx);
            for link in waiting {
                say(cx, link, pace);
            }
        }
    }
}

/// Often enough that a receiver with the same limits hears it in time, though one is late.
fn every(cx: &Context) -> Duration {
    cx.limits.stalled / 3
}

fn say(cx: &mut Context, link: LinkId, pace: Pace) {
    let Pace { piece, paused } = pace;
    cx.send(link, Message::Pace { piece, paused });
}
