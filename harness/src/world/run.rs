//! The event loop: advances time and executes the next event.

use std::cmp::Reverse;
use std::time::Duration;

use handover_core::engine::{
    self, DialId, DiskDone, DownloadId, DownloadOutcome, Input, JobId, LinkId, LookUpId, ShareId,
};
use handover_core::time::Time;
use handover_transports::memory::{DownCause, HostId};

use super::links::Route;
use super::{Place, World};
use crate::ledger::Fault;
use crate::network::NetworkEvent;

/// Maximum number of events at one moment. More indicate a busy loop.
const MOST_AT_ONCE: u32 = 500_000;
/// Maximum number of events in one call of [`World::run_until`]. More indicate a lack of progress.
const MOST_IN_ALL: u32 = 3_000_000;

/// A scheduled event.
pub(super) enum Task {
    /// A dial connects.
    Connect {
        host: HostId,
        life: u32,
        dial: DialId,
        to: HostId,
        route: Route,
    },
    /// A dial fails.
    DialFailed {
        host: HostId,
        life: u32,
        dial: DialId,
    },
    /// A disk job ends, unless its engine was lost in a crash by then.
    Disk { host: HostId, life: u32, job: JobId },
    /// An announce ends.
    Announced {
        host: HostId,
        life: u32,
        place: engine::Place,
    },
    /// A lookup ends.
    LookedUp {
        host: HostId,
        lookup: LookUpId,
        place: engine::Place,
    },
    /// A connection has been opened to `host` by its other end.
    Path {
        host: HostId,
        to: HostId,
        route: Route,
        by: Fault,
    },
    /// A circuit reaches its time limit.
    EndCircuit(LinkId),
    /// A closed link has had its time to write the remaining data.
    Linger(LinkId),
    /// An action scheduled by a scenario.
    Act(Box<dyn FnOnce(&mut World)>),
}

impl World {
    /// Runs until a condition holds, for at most `most`. Returns true if it held.
    pub fn run_until(&mut self, mut held: impl FnMut(&Self) -> bool, most: Duration) -> bool {
        let end = self.now() + most;
        let (mut moment, mut at_once) = (self.now(), 0);
        for _ in 0..MOST_IN_ALL {
            if held(self) {
                return true;
            }
            let Some(at) = self.next_at().filter(|at| *at <= end) else {
                self.network.advance_to(end);
                return held(self);
            };
            self.step(at);
            at_once += 1;
            if self.now() > moment {
                (moment, at_once) = (self.now(), 0);
            }
            assert!(at_once < MOST_AT_ONCE, "time stands still at {moment:?}");
        }
        panic!("much happens, and nothing comes of it");
    }

    /// Runs for this time.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(|_| false, time);
    }

    /// Runs until a download has ended, for at most ten minutes, and returns its outcome.
    pub fn run_to_end(&mut self, host: HostId, download: DownloadId) -> DownloadOutcome {
        let ended = |world: &Self| world.outcome(host, download).is_some();
        assert!(
            self.run_until(ended, Duration::from_mins(10)),
            "download {download} hangs; the last events: {:#?}",
            self.events(host).iter().rev().take(5).collect::<Vec<_>>()
        );
        self.outcome(host, download).cloned().expect("it has ended")
    }

    /// Schedules an action after this time.
    pub fn after(&mut self, time: Duration, act: impl FnOnce(&mut Self) + 'static) {
        self.schedule(time, Task::Act(Box::new(act)));
    }

    fn next_at(&self) -> Option<Time> {
        let wakes = self.places.iter().filter_map(|place| match place {
            Place::Host(host) => Some(host.wake),
            Place::Puppet(_) => None,
        });
        let task = self.agenda.peek().map(|Reverse((at, _))| *at);
        let times = wakes.chain(task).chain(self.network.next_event_at());
        times.min().filter(|at| *at < Time::NEVER)
    }

    /// Executes the next event, which is due at `at`.
    fn step(&mut self, at: Time) {
        if self.network.next_event_at().is_some_and(|next| next <= at) {
            if let Some(event) = self.network.step(at) {
                self.on_network(event);
            }
            return;
        }
        self.network.advance_to(at);
        if self
            .agenda
            .peek()
            .is_some_and(|Reverse((due, _))| *due <= at)
            && let Some(Reverse((_, number))) = self.agenda.pop()
            && let Some(task) = self.tasks.remove(&number)
        {
            return self.perform_task(task);
        }
        let due = |place: &Place| matches!(place, Place::Host(host) if host.wake <= at);
        if let Some(index) = self.places.iter().position(due) {
            let id = HostId(u32::try_from(index).expect("few hosts"));
            if self.host(id).asleep_until > Time::ZERO {
                self.wake_up(id);
            }
            self.feed(id, Input::Tick);
        }
    }

    fn perform_task(&mut self, task: Task) {
        match task {
            // Work that a host started before a crash is dropped.
            Task::Connect {
                host,
                life,
                dial,
                to,
                route,
            } => {
                if self.host(host).life == life {
                    self.connect(host, Some(dial), to, route);
                }
            }
            Task::DialFailed { host, life, dial } => {
                if self.host(host).life == life {
                    let reason = "nobody answers".to_owned();
                    self.feed(host, Input::DialFailed { dial, reason });
                }
            }
            Task::Disk { host, life, job } => {
                if self.host(host).life == life {
                    let scanned = self.host(host).disk.scans(job);
                    let done = self.host_mut(host).disk.end(job);
                    if let (Some(share), DiskDone::Scanned(_)) = (scanned, &done) {
                        self.note_scan(host, share);
                    }
                    self.feed(host, Input::Disk { job, done });
                }
            }
            Task::Announced { host, life, place } => {
                if self.host(host).life == life {
                    self.announced(host, place);
                }
            }
            Task::LookedUp {
                host,
                lookup,
                place,
            } => self.looked_up(host, lookup, place),
            Task::Path {
                host,
                to,
                route,
                by,
            } => self.path(host, to, route, by),
            Task::EndCircuit(link) => self.end_circuit(link),
            Task::Linger(link) => self.give_up(link),
            Task::Act(act) => act(self),
        }
    }

    /// Adds the scanned content to the valid contents of the share.
    fn note_scan(&mut self, host: HostId, share: ShareId) {
        let state = self.host(host);
        let kind = state.disk.shared_now(share).clone();
        let tag = state.shares[&share];
        self.add_version(tag, kind);
    }

    fn on_network(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Up { end } => self.on_up(end),
            NetworkEvent::Delivered { end, bytes } => self.on_bytes(end, bytes),
            NetworkEvent::Writable { end } => self.flush(end),
            NetworkEvent::Ended { end } => {
                self.killed.insert(end.0 / 2);
                self.network.reset(end);
                self.on_down(end, "the other side closed the connection");
            }
            NetworkEvent::Down { end, cause } => {
                if cause == DownCause::Reset {
                    self.killed.insert(end.0 / 2);
                }
                self.on_down(end, &format!("{cause:?}"));
            }
        }
    }
}
