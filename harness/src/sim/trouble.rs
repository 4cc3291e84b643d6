//! Injects the plan's faults.

use std::time::Duration;

use handover_core::engine::{Command, DiskError};
use handover_transports::memory::HostId;

use super::setup::{disk_profile, file_name, ways};
use super::{Act, Sim, millis};
use crate::disk::{DiskProfile, JobKind, SourceKind};
use crate::ledger::{Fault, happened};
use crate::plan::{JobPlan, Trouble};
use crate::tree::content;

/// Time that a program has for a clean shutdown.
const END_IN_ORDER: Duration = Duration::from_secs(6);

impl Sim<'_> {
    pub(super) fn make_trouble(&mut self, what: Trouble) {
        match what {
            Trouble::Crash { host, time } => self.crash(host.into(), time),
            Trouble::Shutdown { host, time } => self.shut_down(host.into(), time),
            Trouble::Withdraw { share } => self.withdraw(share.into()),
            Trouble::Dht { mood, time } => {
                self.world.set_dht(mood);
                self.plan_act(millis(time), Act::DhtWell);
            }
            Trouble::Sleep { host, time } => self.world.sleep(self.at(host), millis(time)),
            Trouble::WallClock { host, seconds } => {
                self.world.jump_clock(self.at(host), seconds.into());
            }
            Trouble::ClockBack { host, inputs, by } => {
                let by = millis(by.into());
                self.world.set_clock_back(self.at(host), inputs.into(), by);
            }
            other => self.make_network_trouble(other),
        }
    }

    fn at(&self, host: u8) -> HostId {
        self.hosts[usize::from(host)]
    }

    fn make_network_trouble(&mut self, what: Trouble) {
        match what {
            Trouble::Stall { host, time } => self.world.stall_links(self.at(host), millis(time)),
            Trouble::Loss { host, time } => self.burst(host.into(), time / 50),
            Trouble::Reset { host } => self.world.reset_links(self.at(host)),
            Trouble::Silence { host } => self.world.silence_links(self.at(host)),
            Trouble::Split { time, one_way } => self.split(millis(time), one_way),
            Trouble::Isolate { host, time } => {
                happened(Fault::Isolated);
                let one = [self.at(host)];
                self.world.cut(&one, &self.hosts.clone(), millis(time));
                self.world.cut(&self.hosts.clone(), &one, millis(time));
            }
            Trouble::Rebind { host } => self.world.rebind(self.at(host)),
            Trouble::Roam { host } => self.roam(host.into()),
            Trouble::RelayGone { relay, time } => self.world.lose_relay(relay.into(), millis(time)),
            Trouble::RelayRefuses { relay, time } => {
                self.world.refuse_circuits(relay.into(), millis(time));
            }
            other => self.make_disk_trouble(other),
        }
    }

    fn make_disk_trouble(&mut self, what: Trouble) {
        match what {
            Trouble::DiskFull { host, room, time } => {
                self.troubled.insert(host.into());
                let disk = self.world.disk_mut(self.at(host));
                disk.room = Some(room.into());
                self.plan_act(millis(time), Act::RoomAgain(host.into()));
            }
            Trouble::IoError { host, job } => {
                let error = DiskError::Other("input/output error".into());
                self.fail_next(host, kind_of(job), error);
            }
            Trouble::ShortRead { host } => {
                happened(Fault::ShortRead);
                let error = DiskError::Other("fewer bytes than there should be".into());
                self.fail_next(host, JobKind::Read, error);
            }
            Trouble::SlowDisk { host, micros, time } => {
                happened(Fault::SlowDisk);
                let profile = disk_profile(micros);
                self.world.disk_mut(self.at(host)).profile = DiskProfile {
                    // As on real disks, written data stays in memory until a sync.
                    sync: profile.sync * 100,
                    ..profile
                };
                self.plan_act(millis(time), Act::DiskSpeed(host.into()));
            }
            Trouble::RenameFails { host, times } => {
                self.troubled.insert(host.into());
                self.world.disk_mut(self.at(host)).renames_fail += u32::from(times);
            }
            Trouble::ChangeKnown { host } => self.world.disk_mut(self.at(host)).change_known(),
            Trouble::ForgetsToSync { host } => {
                self.world.disk_mut(self.at(host)).forgets_to_sync = true;
            }
            Trouble::RotStaged { order, byte } => self.rot_staged(order.into(), byte as usize),
            Trouble::NameTaken { order, file } => self.take_name(order.into(), file),
            other => self.make_share_trouble(other),
        }
    }

    fn fail_next(&mut self, host: u8, kind: JobKind, error: DiskError) {
        self.troubled.insert(host.into());
        self.world.disk_mut(self.at(host)).fail_next(kind, error);
    }

    /// Changes shared files while they are shared.
    fn make_share_trouble(&mut self, what: Trouble) {
        let (Trouble::Rot { share, file, .. }
        | Trouble::ChangeFile { share, file }
        | Trouble::RemoveFile { share, file }) = what
        else {
            return;
        };
        let share = &mut self.shares[usize::from(share)];
        let (Some(id), SourceKind::Tree(_)) = (share.id, &share.kind) else {
            return;
        };
        let host = self.hosts[share.host];
        let path = file_name(file.into());
        let SourceKind::Tree(now) = self.world.disk(host).shared_now(id) else {
            return;
        };
        let Some(bytes) = now.bytes(&path).cloned() else {
            return;
        };
        let disk = self.world.disk_mut(host);
        match what {
            Trouble::Rot { byte, .. } => {
                // A file is flipped only once, so that it has just two valid versions.
                if bytes.is_empty() || !share.rotten.insert(path.clone()) {
                    return;
                }
                if let Some(kind) = disk.rot(id, &path, byte as usize) {
                    self.world.add_version(share.secret.tag(), kind);
                    self.world.host_mut(host).rotten = true;
                }
            }
            Trouble::ChangeFile { .. } => {
                happened(Fault::FileChanged);
                let len = bytes.len() + usize::from(file % 2);
                disk.change(id, &path, content(5000 + u64::from(file), len));
            }
            _ => {
                happened(Fault::FileRemoved);
                disk.remove(id, &path);
            }
        }
        share.spoilt = true;
    }

    /// Flips a bit of the data that an order's downloads left. For one in progress, this happens when it ends.
    fn rot_staged(&mut self, order: usize, byte: usize) {
        let order = &mut self.orders[order];
        if order.download.is_some() {
            order.rots = Some(byte);
        } else {
            order.is_rotten |= order.leftover.rot(byte);
        }
    }

    /// Puts a file where an order's download would put one.
    fn take_name(&mut self, order: usize, file: u8) {
        let host = self.at(self.plan.orders[order].host);
        if let Some(download) = self.orders[order].download {
            happened(Fault::NameTaken);
            let disk = self.world.disk_mut(host);
            disk.put(download, &file_name(file.into()), content(9, 99));
        }
    }

    /// Separates hosts with even indices from hosts with odd ones.
    fn split(&mut self, time: Duration, one_way: bool) {
        happened(if one_way { Fault::OneWay } else { Fault::Split });
        let side = |rest: usize| {
            let hosts = self.hosts.iter().copied().enumerate();
            hosts
                .filter(|(at, _)| at % 2 == rest)
                .map(|(_, host)| host)
                .collect::<Vec<_>>()
        };
        let (even, odd) = (side(0), side(1));
        self.world.cut(&even, &odd, time);
        if !one_way {
            self.world.cut(&odd, &even, time);
        }
    }

    /// Stalls links briefly, and again a moment later.
    pub(super) fn burst(&mut self, host: usize, more: u32) {
        happened(Fault::Loss);
        let id = self.hosts[host];
        for link in self.world.links_of(id) {
            self.world.stall(link, Duration::from_millis(30));
        }
        if more > 0 && !self.healed {
            self.plan_act(Duration::from_millis(50), Act::Burst(host, more - 1));
        }
    }

    fn roam(&mut self, host: usize) {
        let id = self.hosts[host];
        if !self.world.is_running(id) {
            return;
        }
        self.moves[host] = self.moves[host].wrapping_add(1);
        let to = ways(host, &self.plan.hosts[host], self.moves[host]);
        self.world.roam(id, &to);
        // Another host soon takes the old address.
        let other = (host + 1) % self.hosts.len();
        let before = ways(
            host,
            &self.plan.hosts[host],
            self.moves[host].wrapping_sub(1),
        );
        if let Some((address, route)) = before.first()
            && other != host
            && self.world.is_running(self.hosts[other])
        {
            self.world
                .listen(self.hosts[other], address.clone(), *route);
        }
        self.hear_shares();
    }

    fn crash(&mut self, host: usize, time: u32) {
        let id = self.hosts[host];
        if !self.world.is_running(id) {
            return;
        }
        if self
            .shares
            .iter()
            .any(|share| share.host == host && share.id.is_some())
        {
            happened(Fault::SharerCrash);
        }
        self.ending.remove(&host);
        self.fall(host);
        self.plan_act(millis(time), Act::Restart(host));
    }

    /// Powers off a host.
    pub(super) fn fall(&mut self, host: usize) {
        let id = self.hosts[host];
        // Record what users were told until now, above all guesses at their codes.
        self.hear_shares();
        self.world.crash(id);
        self.lose_shares(host);
        for at in 0..self.orders.len() {
            if usize::from(self.plan.orders[at].host) == host
                && let Some(download) = self.orders[at].download
            {
                happened(Fault::ReceiverCrash);
                self.take_folder(at, download);
            }
        }
    }

    fn shut_down(&mut self, host: usize, time: u32) {
        let id = self.hosts[host];
        if self.world.is_running(id) {
            happened(Fault::Shutdown);
            self.world.command(id, Command::Shutdown);
            self.ending.insert(host);
            self.hear_orders();
            self.plan_act(END_IN_ORDER, Act::PowerOff(host, time));
        }
    }

    pub(super) fn power_off(&mut self, host: usize, time: u32) {
        if self.ending.remove(&host) {
            self.hear_orders();
            self.fall(host);
            self.plan_act(millis(time), Act::Restart(host));
        }
    }

    pub(super) fn restart(&mut self, host: usize) {
        let id = self.hosts[host];
        if self.world.is_running(id) {
            return;
        }
        self.world.restart(id);
        for at in 0..self.shares.len() {
            if self.shares[at].host == host {
                // The files are scanned again: their current content is shared.
                self.open(at);
            }
        }
        for at in 0..self.orders.len() {
            if usize::from(self.plan.orders[at].host) == host && self.orders[at].attempts > 0 {
                self.try_again(at);
            }
        }
    }

    pub(super) fn room_again(&mut self, host: usize) {
        happened(Fault::RoomAgain);
        self.world.disk_mut(self.hosts[host]).room = None;
    }

    pub(super) fn disk_speed(&mut self, host: usize) {
        let micros = self.plan.hosts[host].disk;
        self.world.disk_mut(self.hosts[host]).profile = disk_profile(micros);
    }

    pub(super) fn attack(&mut self, attacker: usize, more: u8) {
        if self.healed || more == 0 {
            return;
        }
        let plan = self.plan.attackers[attacker];
        let share = &self.shares[usize::from(plan.share)];
        let (host, secret) = (self.hosts[share.host], share.secret.clone());
        let short = share.short.clone();
        let files = match &share.kind {
            SourceKind::Tree(tree) => {
                let files = (0..).zip(tree.iter());
                let sizes = files.filter_map(|(at, (path, _))| {
                    let len = tree.bytes(path)?.len() as u64;
                    (len > 0).then_some((at, len))
                });
                sizes.collect()
            }
            SourceKind::Pipe(_) => vec![(0, u64::from(handover_core::limits::GROUP))],
        };
        if share.id.is_some() {
            let puppet = self.attackers[attacker];
            self.world
                .puppet_attacks(puppet, host, plan.attack, &secret, short.as_ref(), &files);
        }
        self.plan_act(Duration::from_secs(1), Act::Attack(attacker, more - 1));
    }
}

fn kind_of(job: JobPlan) -> JobKind {
    match job {
        JobPlan::Scan => JobKind::Scan,
        JobPlan::Read => JobKind::Read,
        JobPlan::Hash => JobKind::Hash,
        JobPlan::Inspect => JobKind::Inspect,
        JobPlan::Stage => JobKind::Stage,
        JobPlan::Write => JobKind::Write,
        JobPlan::Publish => JobKind::Publish,
        JobPlan::Finish => JobKind::Finish,
    }
}
