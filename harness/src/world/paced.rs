//! Limits that users have set at a host, and what went under them: in no second more than a limit's second, and from
//! shares that are paused nothing.
//!
//! What is fetched counts when it is asked for, what is sent when it is read. The disk may be slow, and then several
//! answers leave at once, which no limit can help. A limit or a pause holds for what begins after it, and several things
//! may happen in one moment: so which came first is told by the inputs' order and not by the clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use handover_core::engine::{
    Command, DiskWork, Input, JobId, Limited, LinkId, Segment, ShareId, TransferId,
};
use handover_core::time::Time;
use handover_transports::memory::HostId;

use super::World;
use crate::ledger::{Fault, happened, promise};

const SECOND: Duration = Duration::from_secs(1);
/// How long what went is remembered: longer than a disk takes.
const REMEMBERED: Duration = Duration::from_secs(30);

/// A host's limits.
#[derive(Default)]
pub(super) struct Paced {
    limits: BTreeMap<Limited, Under>,
    /// Shares that are paused, and since when.
    paused: BTreeMap<ShareId, Moment>,
    /// The input that the engine was given last.
    now: Moment,
    /// Reads under way, for which share, and when they began.
    reading: BTreeMap<JobId, (ShareId, Moment)>,
    /// The read that the engine is being told of.
    read: Option<(ShareId, Moment)>,
}

/// An input of an engine: the latest time that it was told by then, and how many inputs it had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    time: Time,
    number: u64,
}

/// One limit, since it was set.
struct Under {
    rate: u64,
    since: Moment,
    /// In the order in which it began: of two reads that began at one time the later one may end first.
    went: VecDeque<(Moment, u64)>,
}

impl Paced {
    /// The latest time that the engine was told.
    pub(super) fn now(&self) -> Time {
        self.now.time
    }

    /// The engine is told something.
    pub(super) fn note(&mut self, input: &Input, now: Time) {
        self.now.time = self.now.time.max(now);
        self.now.number += 1;
        self.read = None;
        match input {
            Input::Disk { job, .. } => self.read = self.reading.remove(job),
            Input::Command(Command::Limit { limited, rate }) => self.set(*limited, *rate),
            Input::Command(Command::PauseShare { share }) => {
                self.paused.entry(*share).or_insert(self.now);
            }
            Input::Command(Command::ResumeShare { share }) => {
                self.paused.remove(share);
            }
            _ => {}
        }
    }

    fn set(&mut self, limited: Limited, rate: Option<u64>) {
        let under = rate.map(|rate| Under {
            rate,
            since: self.now,
            went: VecDeque::new(),
        });
        let before = match under {
            Some(under) => self.limits.insert(limited, under),
            None => self.limits.remove(&limited),
        };
        if before.is_some_and(|before| !before.went.is_empty()) {
            happened(Fault::LimitChanged);
        }
    }

    /// The engine wants something of the disk.
    pub(super) fn note_work(&mut self, job: JobId, work: &DiskWork) {
        if let DiskWork::Read { share, .. } | DiskWork::ReadPipe { share, .. } = work {
            self.reading.insert(job, (*share, self.now));
        }
    }

    fn went(&mut self, all: Limited, of: TransferId, bytes: u64, at: Moment) {
        for limited in [all, Limited::One(of)] {
            if let Some(under) = self.limits.get_mut(&limited)
                && at.number >= under.since.number
            {
                under.went(limited, bytes, at);
            }
        }
    }
}

impl Under {
    fn went(&mut self, limited: Limited, bytes: u64, at: Moment) {
        if self.went.is_empty() {
            happened(Fault::Limit);
        }
        let place = self.went.partition_point(|(other, _)| *other <= at);
        self.went.insert(place, (at, bytes));
        while self
            .went
            .front()
            .is_some_and(|(first, _)| at.time.since(first.time) > REMEMBERED)
        {
            self.went.pop_front();
        }
        let firsts = self.went.iter().enumerate();
        let firsts =
            firsts.filter(|(_, (first, _))| at.time.since(first.time) < SECOND && *first <= at);
        for (place, (first, _)) in firsts {
            let span = self.went.iter().skip(place);
            let span: Vec<_> = span
                .take_while(|(other, _)| other.time.since(first.time) < SECOND)
                .collect();
            // The last is under way as a whole, and a little may have been saved.
            let last = span.last().map_or(0, |(_, bytes)| *bytes);
            let before = span.iter().map(|(_, bytes)| *bytes).sum::<u64>() - last;
            promise!(
                Paced,
                before <= self.rate + self.rate / 20,
                "{before} bytes, and more after them, in one second of {limited:?} at {} a second",
                self.rate
            );
        }
    }
}

impl World {
    /// Watches what a download asks for.
    pub(super) fn look_at_asking(&mut self, host: HostId, link: LinkId, segments: &[Segment]) {
        let session = self.greeted.get(&link).copied();
        let state = self.host_mut(host);
        let mut downloads = state.sessions.iter();
        let download = downloads.find(|(_, other)| Some(**other) == session);
        if let Some(download) = download.map(|(id, _)| *id) {
            let bytes = segments.iter().map(|segment| u64::from(segment.len)).sum();
            let at = state.paced.now;
            let of = TransferId::Download(download);
            state.paced.went(Limited::Down, of, bytes, at);
        }
        self.look_at_room(host);
    }

    /// Watches content that is sent.
    pub(super) fn look_at_serving(&mut self, host: HostId, bytes: usize) {
        let paced = &mut self.host_mut(host).paced;
        if let Some((share, at)) = paced.read {
            let since = paced.paused.get(&share);
            promise!(
                Paced,
                since.is_none_or(|since| at.number < since.number),
                "a share that is paused reads for a receiver"
            );
            let of = TransferId::Share(share);
            paced.went(Limited::Up, of, bytes as u64, at);
        }
    }

    /// What all downloads have asked for stays inside what they have in common, and a request for each link: one that
    /// has nothing to wait for may always have one.
    fn look_at_room(&self, id: HostId) {
        let (mut links, mut ahead) = (0, 0);
        for end in self.ends.values() {
            if end.place == id && !end.closing && !end.asked.is_empty() {
                let asked = end.asked.values().flatten();
                ahead += asked.map(|segment| u64::from(segment.len)).sum::<u64>();
                links += 1;
            }
        }
        let group = u64::from(handover_core::limits::GROUP);
        let most = self.host(id).limits.window_total + links * group;
        promise!(
            Bounded,
            ahead <= most,
            "{ahead} bytes are asked for by all downloads"
        );
    }
}
