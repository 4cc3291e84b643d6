//! Proofs of short codes' words that a host sends: each is a guess for whoever gets it.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::code::ShortCode;
use handover_core::engine::LinkId;
use handover_core::message::{self, Opening};

use crate::ledger::promise;

/// What one host has proved, over all its lives.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// The codes that its user has typed, by number: the words may differ.
    typed: BTreeMap<u32, BTreeSet<String>>,
    /// Links on which it has knocked with a short code, and the number of that.
    knocked: BTreeMap<LinkId, u32>,
    /// Links on which it has sent a proof.
    awaited: BTreeMap<LinkId, u32>,
    /// Proofs that did not lead to a keyed link, by number.
    sent: BTreeMap<u32, u32>,
}

impl Proofs {
    /// The user types a code.
    pub(super) fn typed(&mut self, code: &ShortCode) {
        let codes = self.typed.entry(code.number()).or_default();
        codes.insert(code.encode());
    }

    /// The host says this on a link without keys. There may be so many proofs of one code.
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

    /// A link is keyed: if that came of a proof, the peer knew the words.
    pub(super) fn keyed(&mut self, link: LinkId) {
        let number = self.awaited.remove(&link);
        if let Some(sent) = number.and_then(|number| self.sent.get_mut(&number)) {
            *sent -= 1;
        }
    }

    /// Proofs that did not lead to a keyed link.
    pub(super) fn in_vain(&self) -> u32 {
        self.sent.values().sum()
    }

    /// The host is gone with all its links.
    pub(super) fn crash(&mut self) {
        self.knocked.clear();
        self.awaited.clear();
    }
}
