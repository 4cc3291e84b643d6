//! The end of a run: all faults end, and the remaining downloads must complete.

use std::time::Duration;

use handover_core::engine::{Command, Event};
use handover_transports::memory::HostId;

use super::setup::disk_profile;
use super::{Act, Sim};
use crate::disk::SourceKind;
use crate::ledger::promise;
use crate::plan::{FromPlan, UserPlan};

/// Time that a malicious peer may stay connected after it has revealed itself.
const GRACE: Duration = Duration::from_secs(20);
/// Time that a program may take for a clean shutdown.
const LAST_ORDERS: Duration = Duration::from_mins(1);

impl Sim<'_> {
    /// Ends every fault. Users who gave up try again.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.world.heal();
        for at in 0..self.hosts.len() {
            let host = self.hosts[at];
            self.world.rouse(host);
            if self.ending.remove(&at) {
                self.fall(at);
            }
            self.restart(at);
            self.world.disk_mut(host).heal();
            self.world.disk_mut(host).profile = disk_profile(self.plan.hosts[at].disk);
        }
        for at in 0..self.shares.len() {
            self.open(at);
        }
        self.lift_limits();
        for at in 0..self.orders.len() {
            self.plan_act(Duration::from_secs(1), Act::Order(at));
        }
    }

    /// Checks that everything that can complete does, that malicious peers are gone, and that all programs shut down.
    pub(super) fn finish(&mut self) {
        let bound = self.world.now() + self.bound();
        while self.world.now() < bound && !(0..self.orders.len()).all(|at| self.is_over(at)) {
            let left = bound.since(self.world.now());
            self.wait(left.min(Duration::from_secs(5)));
            self.go();
        }
        for at in 0..self.orders.len() {
            self.judge_order(at);
        }
        self.wait_for(GRACE);
        self.judge_attackers();
        self.end_everything();
        for host in &self.hosts {
            self.world.disk(*host).look_at_folders();
        }
    }

    /// Lets this much time pass, even if something ends meanwhile.
    fn wait_for(&mut self, time: Duration) {
        let until = self.world.now() + time;
        while self.world.now() < until {
            self.wait(until.since(self.world.now()));
            self.go();
        }
    }

    /// True if an order needs no more time.
    fn is_over(&self, at: usize) -> bool {
        let order = &self.orders[at];
        order.settled || (order.download.is_none() && !self.is_owed(at))
    }

    /// True if everything that an order wants is available, now that all faults have ended.
    fn is_owed(&self, at: usize) -> bool {
        let plan = &self.plan.orders[at];
        let FromPlan::Share(share) = plan.from else {
            return false;
        };
        let share = &self.shares[usize::from(share)];
        let once =
            share.is_pipe() && (self.others_want_it(plan.from) || self.orders[at].attempts > 1);
        let unsuitable = plan.to_pipe && !share.is_pipe();
        let rotten = !share.rotten.is_empty();
        let unwanted = self.orders[at].unwanted || plan.user == UserPlan::Declines;
        !(share.over || share.is_empty() || once || unsuitable || rotten || unwanted)
    }

    /// Time limit for all orders: the transfer of everything over the slowest path, with time to detect losses and
    /// retry.
    fn bound(&self) -> Duration {
        let ways = self.plan.hosts.iter().flat_map(|host| &host.ways);
        let rates = ways.map(|way| {
            let window = u64::from(way.window) * 1000 / (2 * u64::from(way.delay.max(1)));
            let rate = if way.rate == 0 {
                u64::MAX
            } else {
                way.rate.into()
            };
            // At least four leaves are requested ahead.
            window
                .min(rate)
                .min(1024 * 1000 / (2 * u64::from(way.delay.max(1))))
        });
        let rate = rates.min().unwrap_or(1).max(1);
        let bytes: u64 = self.shares.iter().map(size_of).sum();
        let orders = self.orders.len() as u64;
        let slow_disks = self.plan.hosts.iter().map(|host| host.disk).max();
        let jobs = bytes / 256 + 200;
        let disk = Duration::from_micros(u64::from(slow_disks.unwrap_or_default()) * jobs * 6);
        Duration::from_mins(4) + Duration::from_secs(10 * orders * bytes / rate) + disk
    }

    fn judge_order(&self, at: usize) {
        let order = &self.orders[at];
        let plan = &self.plan.orders[at];
        if let FromPlan::Liar(liar) = plan.from {
            let lie = self.plan.liars[usize::from(liar)].lie;
            let ended = order.download.is_none();
            promise!(EndsOnce, ended, "a download from {lie:?} has no end");
        }
        if !self.is_owed(at) {
            return;
        }
        let host = self.hosts[usize::from(plan.host)];
        let last: Vec<_> = self.world.events(host).iter().rev().take(6).collect();
        promise!(
            Completes,
            order.settled && order.download.is_none() && order.attempts_in_health <= 2,
            "order {at} has not completed after {} downloads, {} of them since all is well; last of all: {last:?}",
            order.attempts,
            order.attempts_in_health
        );
    }

    fn judge_attackers(&self) {
        for (plan, puppet) in self.plan.attackers.iter().zip(&self.attackers) {
            if !plan.attack.must_end() {
                continue;
            }
            for host in &self.hosts {
                let links = self.world.links_between(*host, *puppet);
                promise!(
                    Dropped,
                    links == 0,
                    "{:?} is still connected after {:?}",
                    puppet,
                    plan.attack
                );
            }
        }
    }

    /// Shuts down all programs, and checks that they end.
    fn end_everything(&mut self) {
        for host in self.hosts.clone() {
            self.world.command(host, Command::Shutdown);
        }
        self.wait_for(LAST_ORDERS);
        for at in 0..self.hosts.len() {
            let host = self.hosts[at];
            let empty = self.world.is_idle(host);
            if !empty {
                self.judge_shutdown(host);
            }
            for order in &self.orders {
                let running = order.download.is_some_and(|download| {
                    self.world.disk(host).has(download)
                        && self.world.outcome(host, download).is_none()
                });
                promise!(EndsOnce, !running, "a download has no end");
            }
        }
    }

    /// Checks that a program has shut down.
    fn judge_shutdown(&self, host: HostId) {
        let ended = |event: &Event| matches!(event, Event::ShutDown);
        let ended = self.world.events(host).iter().rev().take(50).any(ended);
        promise!(EndsOnce, ended, "{host:?} was told to end, and has not");
    }
}

fn size_of(share: &super::Share) -> u64 {
    match &share.kind {
        SourceKind::Tree(tree) => tree.size(),
        SourceKind::Pipe(bytes) => bytes.len() as u64,
    }
}
