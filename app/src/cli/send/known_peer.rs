//! Messages of a share about pairing, and about the paired peer that it is for.

use handover_core::PeerId;

use super::Sending;
use crate::cli::json;
use crate::cli::screen::{Tone, peers, sending};

impl Sending<'_> {
    /// Shows how the one paired peer that the share is for fetches it without a code. Returns false if the share is for
    /// everybody.
    pub(super) fn invited(&mut self) -> bool {
        let Some((known, us)) = &self.codes.known else {
            return false;
        };
        let network = &self.args.network;
        let invitation = peers::invitation(&known.name, us, network.loopback, &network.bootstrap);
        self.screen
            .event(&json::share_open_to(self.share, known.peer));
        self.screen.need(Tone::Plain, &invitation);
        self.screen.say(Tone::Plain, sending::waiting());
        self.printed = Some(String::new());
        true
    }

    /// Reports that a receiver has been paired.
    pub(super) fn paired(&mut self, peer: PeerId, name: String) {
        self.remembered += 1;
        let name = if name.is_empty() {
            peer.to_string()
        } else {
            name
        };
        self.screen.say(Tone::Good, &peers::remembered(&name));
    }

    /// Called when a receiver has completed. Reports if pairing was wanted and no receiver has been paired.
    pub(super) fn not_agreed(&self) {
        if self.args.remember && self.remembered == 0 {
            self.screen.say(Tone::Plain, peers::not_agreed());
        }
    }
}
