//! A DHT as its users see it: what a look-up finds.

use std::collections::BTreeMap;

use handover_core::Multiaddr;
use handover_core::code::Ticket;
use handover_core::secret::ShareSecret;
use serde::{Deserialize, Serialize};

use crate::ledger::{Fault, happened};

/// What the DHT does with look-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhtMood {
    /// It tells what was announced last.
    #[default]
    Well,
    /// It finds nothing.
    Empty,
    /// It tells what was announced first.
    Stale,
    /// The nodes nearest to the key belong to somebody who puts in what they like, and leaves the truth behind it.
    Hostile,
}

/// Records by meeting point.
#[derive(Default)]
pub(crate) struct Dht {
    pub(crate) mood: DhtMood,
    records: BTreeMap<[u8; 32], Vec<Vec<Multiaddr>>>,
    /// What hostile nodes tell.
    pub(crate) planted: Vec<Multiaddr>,
}

impl Dht {
    pub(crate) fn publish(&mut self, ticket: &Ticket) {
        let record = self.records.entry(ticket.secret.meeting_point());
        record.or_default().push(ticket.addresses.clone());
    }

    pub(crate) fn look_up(&self, secret: &ShareSecret) -> Vec<Multiaddr> {
        let records = self.records.get(&secret.meeting_point());
        let last = records.and_then(|all| all.last()).cloned();
        let last = last.unwrap_or_default();
        match self.mood {
            DhtMood::Well => last,
            DhtMood::Empty => {
                happened(Fault::DhtEmpty);
                Vec::new()
            }
            DhtMood::Stale => {
                happened(Fault::DhtStale);
                let first = records.and_then(|all| all.first());
                first.cloned().unwrap_or_default()
            }
            DhtMood::Hostile => {
                happened(Fault::DhtHostile);
                self.planted.iter().cloned().chain(last).collect()
            }
        }
    }
}
