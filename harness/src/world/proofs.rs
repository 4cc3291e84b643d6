//! Password proofs that a host sends. Each one lets the receiving peer test one guess.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::code::ShortCode;
use handover_core::engine::LinkId;
use handover_core::message::{self, Opening};

use crate::ledger::promise;

/// Proofs of one host, across all restarts.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Codes typed by the user, by number: the words may differ.
    typed: BTreeMap<u32, BTreeSet<String>>,
    /// Links with a handshake request for a short code, and the code's number.
    knocked: BTreeMap<LinkId, u32>,
    /// Links on which a proof has been sent, and the code's number.
    awaited: BTreeMap<LinkId, u32>,
    /// Number of proofs per short code number that did not lead to a keyed link.
    sent: BTreeMap<u32, u32>,
}

impl Proofs {
    /// Records a code typed by the user.
    pub(super) fn typed(&mut self, code: &ShortCode) {
        let codes = self.typed.entry(code.number()).or_default();
        codes.insert(code.encode());
    }

    /// Records an unsealed frame sent by the host. Checks the number of proofs against `most` per typed code.
    pub(super) fn said(&mut self, link: LinkId, bytes: &[u8], most: u32) {
        if let Ok(Opening::Short(knock)) = message::decode(bytes) {
            self.knocked.insert(link, knock.number);
        } else if let Some(number) = self.knocked.remove(&link) {
            let sent = self.sent.entry(number).or_default();
            *sent += 1;
            self.awaited.insert(link, number);
            let codes = self.typed.get(&number).map_or(0, BTreeSet::len);
            promise!(
                Proofs,
                *sent as usize <= most as usize * codes,
                "{sent} proofs of the words of {number}"
            );
        }
    }

    /// Records that a link is keyed: if a proof led to it, the peer knew the words.
    pub(super) fn keyed(&mut self, link: LinkId) {
        let number = self.awaited.remove(&link);
        if let Some(sent) = number.and_then(|number| self.sent.get_mut(&number)) {
            *sent -= 1;
        }
    }

    /// Number of proofs that did not lead to a keyed link.
    pub(super) fn in_vain(&self) -> u32 {
        self.sent.values().sum()
    }

    /// Forgets the links of a crashed host.
    pub(super) fn crash(&mut self) {
        self.knocked.clear();
        self.awaited.clear();
    }
}
