//! What a download does about [circuits](super::circuits) that relays end.

use super::super::context::Context;
use super::super::{DialId, Event, LinkId, PathKind};
use super::carries::is_limited;
use super::circuits::View;
use super::{Download, Stage};

impl Download {
    /// What decides about circuits, while a transfer is under way.
    pub(super) fn circuit_view(&self) -> Option<View<'_>> {
        let Stage::Transfer(transfer) = &self.stage else {
            return None;
        };
        Some(View {
            links: &self.links,
            transfer,
            source: &self.order.source,
            known: &self.finding.known,
            options: &self.order.options,
            choice: &self.finding.relays,
            turn: self.finding.turn,
            paused: self.paused,
        })
    }

    /// Whether a link that comes up over one more circuit is of use.
    pub(super) fn wants_circuit(&self, cx: &Context, dial: DialId, path: PathKind) -> bool {
        let best = self.links.best.and_then(|best| cx.links.get(best));
        let relayed = best.is_none_or(|best| best.path == PathKind::Relayed);
        self.circuits.dialled(dial) && path == PathKind::Relayed && relayed && !self.is_ending()
    }

    /// Closes links to other sources that can't carry more, once nothing is asked for on them: they are dialled again.
    pub(super) fn release_worn_mates(&mut self, cx: &mut Context) {
        for link in self.links.worn_mates(cx, self.stage.under_way()) {
            cx.close(link);
            self.link_down(cx, link, "its relay would have ended it".to_string());
        }
    }

    /// The sharer's welcome came over a link.
    pub(super) fn circuit_welcomed(&mut self, cx: &mut Context, link: LinkId) {
        let Some(fetching) = self.links.get(link) else {
            return;
        };
        let relay = fetching.relay.filter(|_| is_limited(cx, link));
        if self.circuits.welcomed(fetching.circuit, relay, cx.now) {
            let allowance = cx.links.get(link).map(|state| state.allowance);
            cx.event(Event::Circuits {
                download: self.order.id,
                relays: self.circuits.relays(),
                allowance: allowance.unwrap_or_default(),
            });
        }
    }

    /// A dial has come to nothing; whether it was for one more circuit.
    pub(super) fn circuit_failed(&mut self, cx: &mut Context, dial: DialId) -> bool {
        let Some(relay) = self.circuits.failed(dial) else {
            return false;
        };
        // Where there is a better path by now, it was this side that wanted it no more.
        if self.links.uses_circuits(cx) || self.links.best.is_none() {
            let others = cx.circuits_through(relay);
            cx.relays.refused(relay, others, cx.now);
        }
        if !self.is_ending() {
            self.pump(cx);
        }
        true
    }

    /// Asks on all circuits, and opens the next ones.
    pub(super) fn ask_circuits(&mut self, cx: &mut Context) {
        if !self.links.uses_circuits(cx) {
            return self.circuits.unused();
        }
        for link in self.links.other_circuits(cx) {
            self.ask(cx, link);
        }
        let view = self.circuit_view();
        if view.is_some_and(|view| self.circuits.must_tell_spared(cx, &view)) {
            self.circuits.told_spared();
            let (download, an_hour) = (self.order.id, cx.limits.relay_an_hour);
            cx.event(Event::RelaysSpared { download, an_hour });
        }
        while let Some(next) = self
            .circuit_view()
            .and_then(|view| self.circuits.next(cx, &view))
        {
            self.circuits.open(cx, self.order.id, next);
        }
    }
}
