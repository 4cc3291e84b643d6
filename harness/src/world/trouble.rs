//! Faults that can be injected: into hosts, links, NATs, relays and the DHT.

use std::time::Duration;

use handover_core::Multiaddr;
use handover_core::engine::{Input, LinkId};
use handover_core::time::Time;
use handover_transports::memory::HostId;

use super::{DhtMood, Nat, Relay, Route, World};
use crate::ledger::{Fault, happened};

impl World {
    /// Moves a host to the local network with this number.
    pub fn set_lan(&mut self, host: HostId, lan: u8) {
        self.reach.set_lan(host, lan);
    }

    /// Enables hole punching: this long after a relayed link to the host, a direct connection between both comes up.
    pub fn set_punching(&mut self, host: HostId, after: Option<Duration>) {
        match after {
            Some(after) => self.punching.insert(host, after),
            None => self.punching.remove(&host),
        };
    }

    /// Puts a host behind a NAT, or removes its NAT.
    pub fn set_nat(&mut self, host: HostId, nat: Option<Nat>) {
        self.reach.set_nat(host, nat);
    }

    /// Adds a relay. Routes refer to it [by its number](Route::through).
    pub fn add_relay(&mut self, relay: Relay) -> usize {
        self.reach.relays.push(relay);
        self.reach.relays.len() - 1
    }

    /// Takes a relay down for a while, along with all its circuits.
    pub fn lose_relay(&mut self, relay: usize, time: Duration) {
        self.reach.relays[relay].gone_until = self.now() + time;
        let through = |end: &super::End| end.relay == Some(relay);
        for link in self.ends_that(through) {
            happened(Fault::RelayGone);
            self.kill_link(link);
        }
    }

    /// Makes a relay refuse new circuits for a while.
    pub fn refuse_circuits(&mut self, relay: usize, time: Duration) {
        self.reach.relays[relay].refuses_until = self.now() + time;
    }

    /// Cuts one direction between two groups of hosts for a while. Links stall and dials fail.
    pub fn cut(&mut self, from: &[HostId], to: &[HostId], time: Duration) {
        let until = self.now() + time;
        for a in from {
            for b in to {
                if a == b {
                    continue;
                }
                self.reach.cut(*a, *b, until);
                let arrives = |end: &super::End| end.place == *b && end.across == *a;
                for end in self.ends_that(arrives) {
                    self.network.stall(end, until);
                }
            }
        }
    }

    /// Stalls a host's links for a while; afterwards everything arrives.
    pub fn stall_links(&mut self, host: HostId, time: Duration) {
        for link in self.ends_of(host) {
            happened(Fault::Stall);
            self.stall(link, time);
        }
    }

    /// Silences a host's links without notice to either end.
    pub fn silence_links(&mut self, host: HostId) {
        for link in self.ends_of(host) {
            happened(Fault::Silence);
            self.silence(link);
        }
    }

    /// Resets a host's links.
    pub fn reset_links(&mut self, host: HostId) {
        for link in self.ends_of(host) {
            happened(Fault::Reset);
            self.kill_link(link);
        }
    }

    /// Drops all mappings of a host's NAT, which silences its direct links.
    pub fn rebind(&mut self, host: HostId) {
        self.reach.forget(host);
        let direct = |end: &super::End| {
            end.place == host && end.path == handover_core::engine::PathKind::Direct
        };
        for link in self.ends_that(direct) {
            happened(Fault::NatRebind);
            self.silence(link);
        }
    }

    /// Moves a host to another network: its links go silent and its addresses change.
    pub fn roam(&mut self, host: HostId, to: &[(Multiaddr, Route)]) {
        happened(Fault::Roam);
        for link in self.ends_of(host) {
            self.silence(link);
        }
        self.reach.forget(host);
        self.routes.retain(|_, (there, _)| *there != host);
        for (address, route) in to {
            self.routes.insert(address.clone(), (host, *route));
        }
        self.announce(host);
    }

    /// Suspends a host: incoming data waits, and nothing is done.
    pub fn sleep(&mut self, id: HostId, time: Duration) {
        let until = self.now() + time;
        let host = self.host_mut(id);
        if host.is_up() {
            happened(Fault::Sleep);
            host.asleep_until = until;
            host.wake = until;
        }
    }

    /// Wakes a suspended host.
    pub fn rouse(&mut self, id: HostId) {
        let now = self.now();
        let host = self.host_mut(id);
        if host.asleep_until > now {
            host.asleep_until = now;
            host.wake = now;
        }
    }

    /// Lets a host read what arrived while it was suspended.
    pub(super) fn wake_up(&mut self, id: HostId) {
        self.host_mut(id).asleep_until = Time::ZERO;
        for link in self.ends_of(id) {
            self.drain(link);
        }
    }

    /// Makes a host's wall clock jump.
    pub fn jump_clock(&mut self, id: HostId, seconds: i64) {
        happened(Fault::WallClock);
        let clock = &mut self.host_mut(id).disk.clock;
        clock.seconds = clock.seconds.saturating_add(seconds);
        self.tell_date(id);
    }

    /// Tells a host's engine the current date.
    pub(super) fn tell_date(&mut self, id: HostId) {
        let seconds = self.host(id).disk.clock.seconds;
        let day = u32::try_from(seconds / 86_400).unwrap_or_default();
        self.feed(id, Input::Date { day });
    }

    /// For this many inputs, makes a host's driver report a time that is too early.
    pub fn set_clock_back(&mut self, id: HostId, inputs: u32, by: Duration) {
        happened(Fault::ClockBack);
        self.host_mut(id).clock_back = (inputs, by);
    }

    /// True if a host has power.
    pub fn is_running(&self, id: HostId) -> bool {
        self.host(id).is_up()
    }

    /// True if a host has power and is not suspended.
    pub fn is_awake(&self, id: HostId) -> bool {
        self.is_up(id)
    }

    /// Sets how the DHT answers lookups from now on.
    pub fn set_dht(&mut self, mood: DhtMood) {
        self.dht.mood = mood;
    }

    /// Plants these scripted peers in the DHT: hostile nodes return them for every key.
    pub fn plant(&mut self, puppets: &[HostId]) {
        let known = puppets.iter();
        let known = known.map(|puppet| (self.peer(*puppet), vec![Self::address(*puppet)]));
        self.dht.planted = known.collect();
    }

    /// Ends every network fault: partitions, NATs, relay limits, DHT faults, closed routes.
    pub fn heal(&mut self) {
        self.reach.heal();
        self.dht.mood = DhtMood::Well;
        for (_, route) in self.routes.values_mut() {
            route.open = true;
        }
    }

    pub(super) fn ends_that(&self, is: impl Fn(&super::End) -> bool) -> Vec<LinkId> {
        let ends = self.ends.iter().filter(|(_, end)| is(end));
        ends.map(|(link, _)| *link).collect()
    }
}
