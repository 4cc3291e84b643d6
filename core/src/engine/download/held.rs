//! A download that is held back: by its user, by limits here, by the memory that all downloads have in common, or by its sharer.

use super::super::context::Context;
use super::super::gate::TransferId;
use super::super::{Event, LinkId};
use super::{Download, Stage};
use crate::limits::{GROUP, LEAF};

/// What the sharer says of itself on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SharerPace {
    /// Bytes that one request should ask for at the most.
    pub(super) piece: u32,
    /// It answers no requests for now.
    pub(super) paused: bool,
}

impl Default for SharerPace {
    fn default() -> Self {
        Self {
            piece: GROUP,
            paused: false,
        }
    }
}

impl Download {
    pub(super) fn of(&self) -> TransferId {
        TransferId::Download(self.id)
    }

    /// Stops asking for more, or goes on.
    pub(in super::super) fn pause(&mut self, cx: &mut Context, paused: bool) {
        if self.is_ending() || self.paused == paused {
            return;
        }
        self.paused = paused;
        self.report(cx);
        self.pump(cx);
    }

    /// The sharer says how it holds back.
    pub(super) fn told_pace(&mut self, cx: &mut Context, link: LinkId, piece: u32, paused: bool) {
        if let Some(fetching) = self.links.get_mut(&link) {
            let piece = (piece / LEAF).max(1).saturating_mul(LEAF);
            fetching.pace = SharerPace { piece, paused };
        }
        self.tell_sharer_paused(cx);
    }

    /// Tells the user whether the sharer has paused, if that is new.
    pub(super) fn tell_sharer_paused(&mut self, cx: &mut Context) {
        let best = self.best.and_then(|best| self.links.get(&best));
        let Some(paused) = best.map(|fetching| fetching.pace.paused) else {
            return;
        };
        if paused != self.sharer_paused {
            self.sharer_paused = paused;
            cx.event(Event::SharerPaused {
                download: self.id,
                paused,
            });
        }
    }

    /// Bytes that one request over this link asks for at the most, whatever its window has room for.
    pub(super) fn piece(&self, cx: &Context, link: LinkId) -> u32 {
        let sharer = self.links.get(&link).map_or(GROUP, |link| link.pace.piece);
        let limit = cx.down.piece(self.of());
        let room = cx.room.piece(cx.limits.window_total);
        sharer.min(limit).min(room)
    }

    /// Bytes asked for ahead, and here but not on disk.
    pub(super) fn held(&self) -> u64 {
        match &self.stage {
            Stage::Transfer(transfer) => {
                let ahead = self.links.values().map(|fetching| fetching.flow.ahead());
                ahead.fold(transfer.writes.cost(), u64::saturating_add)
            }
            _ => 0,
        }
    }

    /// Takes note of what it holds, for the sake of the others.
    pub(super) fn note_room(&self, cx: &mut Context) {
        let has_source = self.best.is_some() || self.has_mates();
        let asks = match &self.stage {
            Stage::Transfer(transfer) => transfer.staged && !self.paused && has_source,
            _ => false,
        };
        if self.is_ending() {
            cx.room.leave(self.id);
        } else {
            cx.room.holds(self.id, self.held(), asks);
        }
    }

    /// Nothing here holds it back any more.
    pub(in super::super) fn go_on(&mut self, cx: &mut Context) {
        self.pump(cx);
        self.seed_pump(cx);
        self.note_room(cx);
    }
}
