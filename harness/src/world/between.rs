//! Middleboxes and network services that act on traffic: NATs that drop mappings, relays with limits, mDNS.

use std::collections::BTreeMap;

use handover_core::Multiaddr;
use handover_core::engine::{Input, LinkId, PathKind};
use handover_core::time::Time;
use handover_transports::memory::HostId;

use super::run::Task;
use super::{Place, Route, World};
use crate::ledger::{Fault, happened};

impl World {
    /// Enables discovery of neighbours: from now on hosts on the same local network are told about each other.
    pub fn make_neighbourly(&mut self) {
        self.neighbourly = true;
        self.tell_neighbours();
    }

    /// Tells every host the LAN addresses of all others on its local network.
    pub(super) fn tell_neighbours(&mut self) {
        if !self.neighbourly {
            return;
        }
        let on_lan = |(_, (host, route)): &(&Multiaddr, &(HostId, Route))| {
            (route.path == PathKind::Lan).then_some(*host)
        };
        let mut by_host: BTreeMap<HostId, Vec<Multiaddr>> = BTreeMap::new();
        for item in &self.routes {
            if let Some(host) = on_lan(&item) {
                by_host.entry(host).or_default().push(item.0.clone());
            }
        }
        let hosts: Vec<_> = by_host.keys().copied().collect();
        for listener in (0..self.places.len()).map(|at| HostId(u32::try_from(at).unwrap_or(0))) {
            if !matches!(&self.places[listener.0 as usize], Place::Host(host) if host.is_up()) {
                continue;
            }
            for host in hosts.iter().copied().filter(|host| *host != listener) {
                if self.reach.lan(host) != self.reach.lan(listener) {
                    continue;
                }
                let (peer, addresses) = (self.peer(host), by_host[&host].clone());
                self.feed(listener, Input::Nearby { peer, addresses });
            }
        }
    }

    /// Called before bytes are sent: silences a direct link whose NAT mapping was idle for too long and has expired.
    pub(super) fn outgoing(&mut self, link: LinkId) {
        let now = self.now();
        let other = self.ends.get(&LinkId(link.0 ^ 1)).map(|end| end.touched);
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        if end.wire.is_flushed() {
            return;
        }
        let last = end.touched.max(other.unwrap_or(Time::ZERO));
        end.touched = now;
        let (place, across) = (end.place, end.across);
        if end.path != PathKind::Direct {
            return;
        }
        self.reach.sends(place, across, now);
        let expiry = self.reach.expiry([place, across]);
        if expiry.is_some_and(|expiry| now.since(last) > expiry) {
            happened(Fault::NatExpiry);
            self.silence(link);
        }
    }

    /// Applies the relay's limits to a new circuit.
    pub(super) fn limit_circuit(&mut self, link: LinkId, relay: usize) {
        let relay = self.reach.relays[relay];
        if let Some(bytes) = relay.bytes {
            if relay.each_way {
                self.network.kill_after_bytes_each_way(link, bytes);
            } else {
                self.network.kill_after_bytes(link, bytes);
            }
        }
        if let Some(time) = relay.time {
            self.schedule(time, Task::EndCircuit(link));
        }
    }

    /// Ends a circuit that has reached its time limit.
    pub(super) fn end_circuit(&mut self, link: LinkId) {
        if self.network.hosts(link).is_some() {
            happened(Fault::RelayTime);
            self.kill_link(link);
        }
    }

    /// Counts a circuit that ended because it reached its byte limit, unless it was killed otherwise.
    pub(super) fn note_lost_circuit(&self, link: LinkId) {
        let limited = self.ends.get(&link).and_then(|end| end.relay);
        let limited = limited.is_some_and(|relay| self.reach.relays[relay].bytes.is_some());
        if limited && !self.killed.contains(&(link.0 / 2)) {
            happened(Fault::RelayBytes);
        }
    }
}
