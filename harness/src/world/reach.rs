//! Who can reach whom: local networks, NATs, relays, partitions.
//!
//! NATs are those of RFC 4787: how they map, whom they let in, and when they forget. What a NAT does to bytes that flow
//! is seen at the links; here is what it does to a dial.

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
    /// On nothing outside.
    EndpointIndependent,
    /// On the address outside.
    Address,
    /// On the address and the port outside.
    AddressAndPort,
}

/// A NAT in front of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// What the outer port depends on.
    pub mapping: Depends,
    /// What the right to come in depends on.
    pub filtering: Depends,
    /// How long an idle mapping lives.
    pub expiry: Duration,
}

/// A relay that carries circuits between others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Relay {
    /// Bytes that a circuit may carry, both directions summed; `None` is without a limit.
    pub bytes: Option<u64>,
    /// It counts each direction alone.
    pub each_way: bool,
    /// How long a circuit may stand.
    pub time: Option<Duration>,
    /// It does not say how much that is.
    pub silent: bool,
    /// Circuits that it lets one host have at once; `None` is without a limit.
    pub circuits: Option<usize>,
    /// It is gone until then.
    pub gone_until: Time,
    /// It takes no new circuits until then.
    pub refuses_until: Time,
}

/// Who a relay is, by its number.
pub fn relay_peer(relay: u8) -> PeerId {
    let keys = Keypair::ed25519_from_bytes([0x5e ^ relay; 32]).expect("32 bytes make a key");
    keys.public().to_peer_id()
}

/// A host that is behind a NAT says something to the outside at least so often, in nanoseconds: to
/// relays, to the DHT.
const SAYS_SOMETHING_EVERY: u64 = 20_000_000_000;

/// What stands between hosts.
#[derive(Default)]
pub(crate) struct Reach {
    lans: BTreeMap<HostId, u8>,
    nats: BTreeMap<HostId, Nat>,
    pub(crate) relays: Vec<Relay>,
    /// Nothing gets from the first to the second until then.
    cuts: BTreeMap<(HostId, HostId), Time>,
    /// When a host behind a NAT last sent something to another.
    sent: BTreeMap<(HostId, HostId), Time>,
}

impl Relay {
    /// What it states of its limits.
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

    /// A NAT forgets whom its host has sent to.
    pub(crate) fn forget(&mut self, host: HostId) {
        self.sent.retain(|(from, _), _| *from != host);
    }

    /// A host sends something to another one.
    pub(crate) fn sends(&mut self, from: HostId, to: HostId, now: Time) {
        if self.nats.contains_key(&from) {
            self.sent.insert((from, to), now);
        }
    }

    /// How long a direct link between two hosts may be idle before a NAT forgets it.
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

    /// Nothing gets through between two hosts in one direction at least.
    pub(crate) fn is_apart(&self, a: HostId, b: HostId, now: Time) -> bool {
        self.is_cut(a, b, now) || self.is_cut(b, a, now)
    }

    /// What keeps a dial from getting there, if anything does.
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

    /// Whether a hole between two hosts can be punched: no NAT of theirs takes another port for each peer.
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

/// What keeps a dial out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// This fault.
    Fault(Fault),
    /// One that was counted when it came up.
    Silent,
}
