//! Through which relays a download goes that hides where this side is. Whoever runs a relay sees who connects to it, so
//! one that nobody but the other side has named may be the other side's own: it is used when the user has agreed to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::dial::relay_of;
use crate::{Multiaddr, PeerId};

/// Relays that are asked about at once, and in all. Who hides from whoever names more of them goes without those.
const ASKED: usize = 8;

/// Which relays may be used.
#[derive(Debug, Default)]
pub(super) enum RelayChoice {
    /// All.
    #[default]
    Any,
    /// Those that the user has named, or agreed to.
    Only(Agreed),
}

/// The relays of a user who decides about each.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    relays: BTreeSet<PeerId>,
    /// Others that were named, and where: they are to be asked about.
    in_question: BTreeMap<PeerId, Multiaddr>,
    asked: BTreeSet<PeerId>,
}

impl RelayChoice {
    /// These, or all.
    pub(super) fn new(only: Option<&[PeerId]>) -> Self {
        let Some(relays) = only else {
            return Self::Any;
        };
        Self::Only(Agreed {
            relays: relays.iter().copied().collect(),
            ..Agreed::default()
        })
    }

    /// Whether an address leads through a relay that may be used.
    pub(super) fn may_use(&self, address: &Multiaddr) -> bool {
        match self {
            Self::Any => true,
            Self::Only(agreed) => relay_of(address).is_some_and(|of| agreed.relays.contains(&of)),
        }
    }

    /// Keeps those of some addresses that may be used. The user will be asked about the relays of the others.
    pub(super) fn sort_out(&mut self, addresses: &mut Vec<Multiaddr>) {
        let Self::Only(agreed) = self else {
            return;
        };
        addresses.retain(|address| {
            let Some(relay) = relay_of(address) else {
                return false;
            };
            let may = agreed.relays.contains(&relay);
            let known = agreed.asked.len() + agreed.in_question.len();
            if !may && !agreed.asked.contains(&relay) && known < ASKED {
                agreed
                    .in_question
                    .entry(relay)
                    .or_insert_with(|| address.clone());
            }
            may
        });
    }

    /// Whether there is something to ask the user.
    pub(super) fn is_in_question(&self) -> bool {
        matches!(self, Self::Only(agreed) if !agreed.in_question.is_empty())
    }

    /// The relays that the user is asked about now, and where they are.
    pub(super) fn ask(&mut self) -> Vec<(PeerId, Multiaddr)> {
        let Self::Only(agreed) = self else {
            return Vec::new();
        };
        let asked = std::mem::take(&mut agreed.in_question);
        agreed.asked.extend(asked.keys());
        asked.into_iter().collect()
    }

    /// The user has agreed to these.
    pub(super) fn agree(&mut self, relays: &[PeerId]) {
        if let Self::Only(agreed) = self {
            agreed.relays.extend(relays);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn relay(seed: u8) -> PeerId {
        let keys = crate::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        keys.public().to_peer_id()
    }

    fn through(seed: u8) -> Multiaddr {
        let relay = relay(seed);
        let text = format!("/ip4/192.0.2.{seed}/tcp/1/p2p/{relay}/p2p-circuit");
        text.parse().unwrap()
    }

    #[test]
    fn a_relay_is_used_when_the_user_has_named_it_or_agreed_to_it() {
        let mut choice = RelayChoice::new(Some(&[relay(1)]));
        let mut addresses = vec![
            through(1),
            through(2),
            "/ip4/192.0.2.9/tcp/1".parse().unwrap(),
        ];
        choice.sort_out(&mut addresses);
        assert_eq!(addresses, [through(1)]);
        assert!(choice.is_in_question());
        assert_eq!(choice.ask(), [(relay(2), through(2))]);
        // Each is asked about once.
        choice.sort_out(&mut vec![through(2)]);
        assert!(!choice.is_in_question());
        choice.agree(&[relay(2)]);
        assert!(choice.may_use(&through(2)) && !choice.may_use(&through(3)));
    }

    #[test]
    fn only_so_many_are_asked_about() {
        let mut choice = RelayChoice::new(Some(&[]));
        choice.sort_out(&mut (1..=30).map(through).collect());
        assert_eq!(choice.ask().len(), ASKED);
        choice.sort_out(&mut (31..=60).map(through).collect());
        assert!(!choice.is_in_question());
    }

    #[test]
    fn who_does_not_choose_uses_all() {
        let mut choice = RelayChoice::new(None);
        let mut addresses = vec![through(1), "/ip4/192.0.2.9/tcp/1".parse().unwrap()];
        choice.sort_out(&mut addresses);
        assert_eq!(addresses.len(), 2);
        assert!(!choice.is_in_question());
    }
}
