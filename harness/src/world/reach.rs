//! Reachability between hosts: local networks, NATs, relays, partitions.
//!
//! NATs follow RFC 4787: mapping, filtering and expiry. This module covers their effect on dials; their effect on
//! established links is handled per link.

use std::collections::BTreeMap;
use std::time::Duration;

use handover_core::engine::{Allowance, PathKind};
use handover_core::time::Time;
use handover_core::{Keypair, PeerId};
use handover_transports::memory::HostId;
use serde::{Deserialize, Serialize};

use super::Route;
use crate::ledger::Fault;

/// What a NAT's mapping or filtering depends on (RFC 4787, sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depends {
    /// Independent of the remote endpoint.
    EndpointIndependent,
    /// Depends on the remote address.
    Address,
    /// Depends on the remote address and port.
    AddressAndPort,
}

/// A NAT in front of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// Mapping behaviour.
    pub mapping: Depends,
    /// Filtering behaviour.
    pub filtering: Depends,
    /// Time after which an idle mapping expires.
    pub expiry: Duration,
}

/// A relay that carries circuits between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Relay {
    /// Byte limit per circuit, both directions summed; `None` for unlimited.
    pub bytes: Option<u64>,
    /// True if the byte limit applies to each direction separately.
    pub each_way: bool,
    /// Maximum lifetime of a circuit.
    pub time: Option<Duration>,
    /// True if the relay does not state its limits.
    pub silent: bool,
    /// Maximum number of concurrent circuits per host; `None` for unlimited.
    pub circuits: Option<usize>,
    /// Time until which the relay is gone.
    pub gone_until: Time,
    /// Time until which the relay refuses new circuits.
    pub refuses_until: Time,
}

/// The peer id of the relay with this number.
pub fn relay_peer(relay: u8) -> PeerId {
    let keys = Keypair::ed25519_from_bytes([0x5e ^ relay; 32]).expect("32 bytes make a key");
    keys.public().to_peer_id()
}

/// Interval at which a host behind a NAT sends something to the outside (to relays, to the DHT), in nanoseconds.
const SAYS_SOMETHING_EVERY: u64 = 20_000_000_000;

/// NATs, relays and partitions between hosts.
#[derive(Default)]
pub(crate) struct Reach {
    lans: BTreeMap<HostId, u8>,
    nats: BTreeMap<HostId, Nat>,
    pub(crate) relays: Vec<Relay>,
    /// Cut directions (from the first host to the second), with the end of each cut.
    cuts: BTreeMap<(HostId, HostId), Time>,
    /// Time at which a host behind a NAT last sent something to another.
    sent: BTreeMap<(HostId, HostId), Time>,
}

impl Relay {
    /// The limits that the relay states.
    pub(crate) fn allowance(&self) -> Allowance {
        if self.silent {
            return Allowance::default();
        }
        Allowance {
            bytes: self.bytes,
            time: self.time,
        }
    }
}

impl Reach {
    pub(crate) fn set_lan(&mut self, host: HostId, lan: u8) {
        self.lans.insert(host, lan);
    }

    pub(crate) fn lan(&self, host: HostId) -> u8 {
        self.lans.get(&host).copied().unwrap_or_default()
    }

    pub(crate) fn set_nat(&mut self, host: HostId, nat: Option<Nat>) {
        match nat {
            Some(nat) => self.nats.insert(host, nat),
            None => self.nats.remove(&host),
        };
    }

    /// Drops the NAT mappings of a host.
    pub(crate) fn forget(&mut self, host: HostId) {
        self.sent.retain(|(from, _), _| *from != host);
    }

    /// Records that a host sends something to another one.
    pub(crate) fn sends(&mut self, from: HostId, to: HostId, now: Time) {
        if self.nats.contains_key(&from) {
            self.sent.insert((from, to), now);
        }
    }

    /// Idle time after which a NAT drops a direct link between two hosts.
    pub(crate) fn expiry(&self, hosts: [HostId; 2]) -> Option<Duration> {
        let nats = hosts.iter().filter_map(|host| self.nats.get(host));
        nats.map(|nat| nat.expiry).min()
    }

    pub(crate) fn cut(&mut self, from: HostId, to: HostId, until: Time) {
        let cut = self.cuts.entry((from, to)).or_default();
        *cut = until.max(*cut);
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.nats.clear();
        for relay in &mut self.relays {
            *relay = Relay::default();
        }
    }

    fn is_cut(&self, from: HostId, to: HostId, now: Time) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| *until > now)
    }

    /// True if at least one direction between two hosts is cut.
    pub(crate) fn is_apart(&self, a: HostId, b: HostId, now: Time) -> bool {
        self.is_cut(a, b, now) || self.is_cut(b, a, now)
    }

    /// What blocks a dial, or `None` if it succeeds.
    pub(crate) fn barrier(
        &self,
        from: HostId,
        to: HostId,
        route: &Route,
        now: Time,
    ) -> Option<Barrier> {
        if let Some(relay) = route.relay {
            let relay = &self.relays[relay];
            if relay.gone_until > now {
                return Some(Barrier::Silent);
            }
            return (relay.refuses_until > now).then_some(Barrier::Fault(Fault::RelayRefuses));
        }
        if self.is_apart(from, to, now) {
            return Some(Barrier::Silent);
        }
        match route.path {
            PathKind::Loopback => None,
            PathKind::Lan => (self.lan(from) != self.lan(to)).then_some(Barrier::Silent),
            PathKind::Direct | PathKind::Relayed => self.kept_out(from, to, now),
        }
    }

    /// True if a hole can be punched between two hosts: every NAT's mapping is endpoint-independent.
    pub(crate) fn may_punch(&self, a: HostId, b: HostId) -> bool {
        let nats = [a, b].into_iter().filter_map(|host| self.nats.get(&host));
        let mut mappings = nats.map(|nat| nat.mapping);
        mappings.all(|mapping| mapping == Depends::EndpointIndependent)
    }

    fn kept_out(&self, from: HostId, to: HostId, now: Time) -> Option<Barrier> {
        let nat = self.nats.get(&to)?;
        if nat.mapping != Depends::EndpointIndependent {
            return Some(Barrier::Fault(Fault::NatMapping));
        }
        let fresh = |at: &Time| now.since(*at) < nat.expiry;
        let is_open = if nat.filtering == Depends::EndpointIndependent {
            let since = now.as_nanos() % SAYS_SOMETHING_EVERY;
            let own = self.sent.iter().filter(|((host, _), _)| *host == to);
            Duration::from_nanos(since) < nat.expiry || own.map(|(_, at)| at).any(fresh)
        } else {
            self.sent.get(&(to, from)).is_some_and(fresh)
        };
        (!is_open).then_some(Barrier::Fault(Fault::NatFiltered))
    }
}

/// What blocks a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// This fault, which is counted now.
    Fault(Fault),
    /// A fault that was counted when it was injected.
    Silent,
}
