//! What a share says to and of peers that need no code, or will need none.

use handover_core::PeerId;

use super::Sending;
use crate::cli::json;
use crate::cli::screen::{Tone, peers, sending};

impl Sending<'_> {
    /// Where it is for one peer alone there is no code: that one is told of. Whether it is so.
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

    /// A receiver is remembered from now on.
    pub(super) fn paired(&mut self, peer: PeerId, name: String) {
        self.remembered += 1;
        let name = if name.is_empty() {
            peer.to_string()
        } else {
            name
        };
        self.screen.say(Tone::Good, &peers::remembered(&name));
    }

    /// A receiver has everything. If it was to be remembered and is not, that is said.
    pub(super) fn not_agreed(&self) {
        if self.args.remember && self.remembered == 0 {
            self.screen.say(Tone::Plain, peers::not_agreed());
        }
    }
}
