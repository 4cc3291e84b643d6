//! Rate limits set by users at a host, and the transfers under them. No second may exceed a limit, and paused shares
//! may send nothing.
//!
//! Fetched bytes count when they are requested, sent bytes when they are read from the disk. If the disk is slow,
//! several answers leave at once, which no rate limit can prevent. A limit or a pause applies to work that starts after
//! it. Several things may happen at the same time, so the order is decided by the order of inputs, not by the clock.

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
/// How long transfers are remembered: longer than a disk job takes.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Rate limits of a host.
#[derive(Default)]
pub(super) struct Paced {
    limits: BTreeMap<Limited, Under>,
    /// Paused shares, with the time of the pause.
    paused: BTreeMap<ShareId, Moment>,
    /// The engine's latest input.
    now: Moment,
    /// Reads in progress: their share and start.
    reading: BTreeMap<JobId, (ShareId, Moment)>,
    /// The read whose completion the engine is being told.
    read: Option<(ShareId, Moment)>,
}

/// An input of an engine: the latest time the engine has seen, and the number of inputs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    time: Time,
    number: u64,
}

/// One limit since it was set.
struct Under {
    rate: u64,
    since: Moment,
    /// Transfers in order of their start. Of two reads that start at the same time, the later may finish first.
    went: VecDeque<(Moment, u64)>,
}

impl Paced {
    /// The latest time that the engine has seen.
    pub(super) fn now(&self) -> Time {
        self.now.time
    }

    /// Records an input of the engine.
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

    /// Records a disk job that the engine requested.
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
            // The last transfer is in progress as a whole, and a small allowance may have accumulated.
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
    /// Checks the requests of a download against the limits.
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

    /// Checks the sent content against the limits.
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

    /// Checks that the requests of all downloads fit into the common window, plus one group per link: a link with
    /// nothing outstanding may always send one request.
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
