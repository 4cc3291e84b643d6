//! A download that is held back: by its user, by limits here, by the memory that all downloads have in common, or by its sharer.

use super::super::Event;
use super::super::context::Context;
use super::{Download, Stage};

impl Download {
    /// Stops asking for more, or goes on.
    pub(in super::super) fn pause(&mut self, cx: &mut Context, paused: bool) {
        if self.is_ending() || self.paused == paused {
            return;
        }
        self.paused = paused;
        self.report(cx);
        self.pump(cx);
    }

    /// Tells the user whether the sharer has paused, if that is new.
    pub(super) fn tell_sharer_paused(&mut self, cx: &mut Context) {
        if let Some(paused) = self.links.pause_changed() {
            let download = self.order.id;
            cx.event(Event::SharerPaused { download, paused });
        }
    }

    /// Bytes asked for ahead, and here but not on disk.
    pub(super) fn held(&self) -> u64 {
        match &self.stage {
            Stage::Transfer(transfer) => {
                let ahead = self.links.ahead();
                ahead.fold(transfer.writes.cost(), u64::saturating_add)
            }
            _ => 0,
        }
    }

    /// Takes note of what it holds, for the sake of the others.
    pub(super) fn note_room(&self, cx: &mut Context) {
        let has_source = self.links.best.is_some() || self.has_mates();
        let asks = match &self.stage {
            Stage::Transfer(transfer) => transfer.staged && !self.paused && has_source,
            _ => false,
        };
        if self.is_ending() {
            cx.room.leave(self.order.id);
        } else {
            cx.room.holds(self.order.id, self.held(), asks);
        }
    }

    /// Nothing here holds it back any more.
    pub(in super::super) fn go_on(&mut self, cx: &mut Context) {
        self.pump(cx);
        if let Some((seed, transfer)) = self.serving() {
            seed.pump(cx, transfer);
        }
        self.note_room(cx);
    }
}
