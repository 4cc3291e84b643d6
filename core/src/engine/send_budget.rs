//! The memory budget for serving: bytes being read for answers, and bytes read but not yet sent.
//!
//! Each link has its own limit. This budget bounds all shares and seeding downloads together, in equal parts.

use std::collections::BTreeMap;

use super::TransferId;

/// Bytes held by each share and seeding download.
#[derive(Debug, Default)]
pub(super) struct SendBudget {
    held: BTreeMap<TransferId, u64>,
}

impl SendBudget {
    /// Sets the number of bytes that a share or download holds.
    pub(super) fn holds(&mut self, of: TransferId, bytes: u64) {
        if bytes == 0 {
            self.held.remove(&of);
        } else {
            self.held.insert(of, bytes);
        }
    }

    /// Number of bytes that a share or download may hold in addition, if all together may hold `most`.
    pub(super) fn room(&self, of: TransferId, most: u64) -> u64 {
        let own = self.held.get(&of).copied().unwrap_or_default();
        let others = self.held.keys().filter(|other| **other != of).count() as u64;
        let all = self.held.values().copied().fold(0, u64::saturating_add);
        let part = most / (others + 1);
        part.saturating_sub(own).min(most.saturating_sub(all))
    }

    /// Removes those for which `is_there` is false.
    pub(super) fn keep(&mut self, is_there: impl Fn(TransferId) -> bool) {
        self.held.retain(|of, _| is_there(*of));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DownloadId, ShareId};
    use super::*;

    const ONE: TransferId = TransferId::Share(ShareId(1));
    const TWO: TransferId = TransferId::Download(DownloadId(1));

    #[test]
    fn one_alone_has_all_of_it_and_two_have_half_each() {
        let mut outgoing = SendBudget::default();
        assert_eq!(outgoing.room(ONE, 1000), 1000);
        outgoing.holds(ONE, 700);
        assert_eq!(outgoing.room(ONE, 1000), 300);
        // Its own part would allow 500, but only 300 of the total are left.
        assert_eq!(outgoing.room(TWO, 1000), 300);
        outgoing.holds(TWO, 200);
        assert_eq!(outgoing.room(ONE, 1000), 0);
        assert_eq!(outgoing.room(TWO, 1000), 100);
        outgoing.holds(ONE, 0);
        assert_eq!(outgoing.room(TWO, 1000), 800);
        outgoing.keep(|of| of == ONE);
        assert_eq!(outgoing.room(ONE, 1000), 1000);
    }
}
