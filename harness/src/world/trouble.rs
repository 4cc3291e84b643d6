//! Trouble that can be made: what goes wrong with hosts, links and what stands between them.

use std::time::Duration;

use handover_core::Multiaddr;
use handover_core::engine::{Input, LinkId};
use handover_core::time::Time;
use handover_transports::memory::HostId;

use super::{DhtMood, Nat, Relay, Route, World};
use crate::ledger::{Fault, happened};

impl World {
    /// Puts a host on another local network than the first.
    pub fn set_lan(&mut self, host: HostId, lan: u8) {
        self.reach.set_lan(host, lan);
    }

    /// So long after a host was linked to over a relay, a direct connection of those two comes up: a hole was punched.
    pub fn set_punching(&mut self, host: HostId, after: Option<Duration>) {
        match after {
            Some(after) => self.punching.insert(host, after),
            None => self.punching.remove(&host),
        };
    }

    /// Puts a host behind a NAT, or takes the NAT away.
    pub fn set_nat(&mut self, host: HostId, nat: Option<Nat>) {
        self.reach.set_nat(host, nat);
    }

    /// One more relay; routes lead [through](Route::through) it by its number.
    pub fn add_relay(&mut self, relay: Relay) -> usize {
        self.reach.relays.push(relay);
        self.reach.relays.len() - 1
    }

    /// A relay goes for a while, and every circuit with it.
    pub fn lose_relay(&mut self, relay: usize, time: Duration) {
        self.reach.relays[relay].gone_until = self.now() + time;
        let through = |end: &super::End| end.relay == Some(relay);
        for link in self.ends_that(through) {
            happened(Fault::RelayGone);
            self.kill_link(link);
        }
    }

    /// A relay takes no new circuits for a while.
    pub fn refuse_circuits(&mut self, relay: usize, time: Duration) {
        self.reach.relays[relay].refuses_until = self.now() + time;
    }

    /// Nothing gets from some hosts to others for a while. Links stall, and dials find nobody.
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

    /// A host's links stop for a while, then all of it arrives.
    pub fn stall_links(&mut self, host: HostId, time: Duration) {
        for link in self.ends_of(host) {
            happened(Fault::Stall);
            self.stall(link, time);
        }
    }

    /// A host's links fall silent, and nobody is told.
    pub fn silence_links(&mut self, host: HostId) {
        for link in self.ends_of(host) {
            happened(Fault::Silence);
            self.silence(link);
        }
    }

    /// A host's links are reset.
    pub fn reset_links(&mut self, host: HostId) {
        for link in self.ends_of(host) {
            happened(Fault::Reset);
            self.kill_link(link);
        }
    }

    /// A host's NAT forgets everything.
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

    /// A host moves to another network: its links fall silent, and it is at other addresses.
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

    /// A host sleeps: what comes waits, and nothing is done.
    pub fn sleep(&mut self, id: HostId, time: Duration) {
        let until = self.now() + time;
        let host = self.host_mut(id);
        if host.is_up() {
            happened(Fault::Sleep);
            host.asleep_until = until;
            host.wake = until;
        }
    }

    /// A host that sleeps is woken.
    pub fn rouse(&mut self, id: HostId) {
        let now = self.now();
        let host = self.host_mut(id);
        if host.asleep_until > now {
            host.asleep_until = now;
            host.wake = now;
        }
    }

    /// A host that slept until now reads what has come.
    pub(super) fn wake_up(&mut self, id: HostId) {
        self.host_mut(id).asleep_until = Time::ZERO;
        for link in self.ends_of(id) {
            self.drain(link);
        }
    }

    /// A host's wall clock jumps.
    pub fn jump_clock(&mut self, id: HostId, seconds: i64) {
        happened(Fault::WallClock);
        let clock = &mut self.host_mut(id).disk.clock;
        clock.seconds = clock.seconds.saturating_add(seconds);
        self.tell_date(id);
    }

    /// A host's driver sees what day it is.
    pub(super) fn tell_date(&mut self, id: HostId) {
        let seconds = self.host(id).disk.clock.seconds;
        let day = u32::try_from(seconds / 86_400).unwrap_or_default();
        self.feed(id, Input::Date { day });
    }

    /// A host's driver thinks for so many inputs that it is earlier than it is.
    pub fn set_clock_back(&mut self, id: HostId, inputs: u32, by: Duration) {
        happened(Fault::ClockBack);
        self.host_mut(id).clock_back = (inputs, by);
    }

    /// A host has power.
    pub fn is_running(&self, id: HostId) -> bool {
        self.host(id).is_up()
    }

    /// A host has power and does not sleep.
    pub fn is_awake(&self, id: HostId) -> bool {
        self.is_up(id)
    }

    /// What the DHT does with look-ups from now on.
    pub fn set_dht(&mut self, mood: DhtMood) {
        self.dht.mood = mood;
    }

    /// Hostile nodes of the DHT tell of these peers, wherever one looks.
    pub fn plant(&mut self, puppets: &[HostId]) {
        let known = puppets.iter();
        let known = known.map(|puppet| (self.peer(*puppet), vec![Self::address(*puppet)]));
        self.dht.planted = known.collect();
    }

    /// Every fault of the network is over: partitions, NATs, relays, the DHT, clocks.
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
