//! Running a plan, and judging the run.
//!
//! [`run`] builds the plan's world, lets its time go on and makes its trouble, plays its users, heals everything, and
//! then wants what is owed: whoever can complete does, whoever is malicious is gone, everything ends.

mod end;
mod orders;
mod setup;
mod shares;
mod throttle;
mod trouble;
mod verdict;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use handover_core::time::Time;
use handover_transports::memory::HostId;

use crate::plan::Plan;
use crate::puppet::Sharing;
use crate::world::World;
use orders::{Order, UserAct};
use shares::Share;
pub use verdict::{Class, Failure, Run, run, run_narrated};

/// Something that the plan, or what came of it, will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// A share is made.
    Open(usize),
    /// An order is placed, for the first time or again.
    Order(usize),
    /// A user does something about an order's download, if it still is this one.
    User(usize, u64, UserAct),
    /// The plan's fault with this number.
    Fault(usize),
    /// Links stop for a moment, so many times more.
    Burst(usize, u32),
    /// A share that was paused goes on.
    ShareGoesOn(usize),
    /// A host that was ended in order is off, and comes back after so many milliseconds.
    PowerOff(usize, u32),
    /// A host has power again.
    Restart(usize),
    /// A host's disk has room again.
    RoomAgain(usize),
    /// A host's disk is as quick as before.
    DiskSpeed(usize),
    /// The DHT is well again.
    DhtWell,
    /// An attacker begins once more.
    Attack(usize, u8),
    /// Everything heals.
    Heal,
}

/// A run.
struct Sim<'a> {
    plan: &'a Plan,
    world: World,
    hosts: Vec<HostId>,
    liars: Vec<(HostId, Sharing)>,
    attackers: Vec<HostId>,
    shares: Vec<Share>,
    orders: Vec<Order>,
    agenda: BinaryHeap<Reverse<(Time, u64, Act)>>,
    next: u64,
    /// Hosts whose disk had trouble: files may fail there.
    troubled: BTreeSet<usize>,
    /// Hosts whose programs were told to end, and are not off yet.
    ending: BTreeSet<usize>,
    /// How often each host has moved.
    moves: Vec<u8>,
    healed: bool,
    /// How many endings were seen to: what ends while an act is performed is seen to after it.
    heard: u64,
}

impl Sim<'_> {
    /// Lets the plan's time go on until nothing is planned any more.
    fn go(&mut self) {
        while let Some(Reverse((at, _, _))) = self.agenda.peek() {
            let at = *at;
            self.wait(at.since(self.world.now()));
            if self.world.now() >= at
                && let Some(Reverse((_, _, act))) = self.agenda.pop()
            {
                self.world.tell(&"plan", || format!("{act:?}"));
                self.perform(act);
            }
        }
    }

    /// Lets time pass, or less if something has ended meanwhile.
    fn wait(&mut self, time: Duration) {
        let seen = self.heard;
        self.world.run_until(|world| world.endings != seen, time);
        if self.world.endings != seen {
            self.heard = self.world.endings;
            self.hear_shares();
            self.hear_orders();
        }
    }

    fn plan_act(&mut self, after: Duration, act: Act) {
        let at = self.world.now() + after;
        self.next += 1;
        self.agenda.push(Reverse((at, self.next, act)));
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Open(share) => self.open(share),
            Act::Order(order) => self.order(order),
            Act::User(order, attempt, act) => self.user_acts(order, attempt, act),
            Act::Fault(fault) if !self.healed => {
                let what = self.plan.faults[fault].what;
                if !self.throttle(what) {
                    self.make_trouble(what);
                }
            }
            Act::Fault(_) => {}
            Act::Burst(host, more) => self.burst(host, more),
            Act::ShareGoesOn(share) => {
                self.pause(share, false);
            }
            Act::PowerOff(host, time) => self.power_off(host, time),
            Act::Restart(host) => self.restart(host),
            Act::RoomAgain(host) => self.room_again(host),
            Act::DiskSpeed(host) => self.disk_speed(host),
            Act::DhtWell => self.world.set_dht(crate::DhtMood::Well),
            Act::Attack(attacker, more) => self.attack(attacker, more),
            Act::Heal => self.heal(),
        }
    }
}

/// When users of a host that sleeps look again whether it does.
const ASLEEP: Duration = Duration::from_millis(500);

fn millis(time: u32) -> Duration {
    Duration::from_millis(time.into())
}
