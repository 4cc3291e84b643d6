//! Runs plans, and judges the runs.
//!
//! [`run`] builds the plan's world, advances its time, injects its faults, acts as its users, and ends all faults. It
//! then requires that everything that can complete does, that malicious peers are gone, and that everything ends.

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

/// A scheduled action, from the plan or as a consequence of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// Creates a share.
    Open(usize),
    /// Places an order, for the first time or again.
    Order(usize),
    /// A user acts on an order's download, if it is still the one with this attempt number.
    User(usize, u64, UserAct),
    /// Injects the plan's fault with this index.
    Fault(usize),
    /// Stalls links briefly, and repeats that this many times.
    Burst(usize, u32),
    /// Resumes a paused share.
    ShareGoesOn(usize),
    /// Powers off a host after a clean shutdown; it is restarted after this many milliseconds.
    PowerOff(usize, u32),
    /// Restarts a host.
    Restart(usize),
    /// Frees space on a host's disk.
    RoomAgain(usize),
    /// Restores the speed of a host's disk.
    DiskSpeed(usize),
    /// Ends the DHT's faults.
    DhtWell,
    /// Starts an attack once more.
    Attack(usize, u8),
    /// Ends all faults.
    Heal,
}

/// A run in progress.
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
    /// Hosts whose disks had faults, so that files may fail there.
    troubled: BTreeSet<usize>,
    /// Hosts whose programs were told to shut down and are not off yet.
    ending: BTreeSet<usize>,
    /// Number of moves of each host.
    moves: Vec<u8>,
    healed: bool,
    /// Number of endings processed. Endings that occur while an action is performed are processed after it.
    heard: u64,
}

impl Sim<'_> {
    /// Runs the plan's actions until none are left.
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

    /// Lets this much time pass, or less if something ends meanwhile.
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

/// Interval at which users of a suspended host check whether it is awake.
const ASLEEP: Duration = Duration::from_millis(500);

fn millis(time: u32) -> Duration {
    Duration::from_millis(time.into())
}
