//! A host: its engine, its disk, its user's screen; and the engine's driver, which watches what it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use handover_core::Keypair;
use handover_core::engine::{
    Command, DiskWork, DownloadId, DownloadOutcome, Engine, Event, Input, JobId, LinkId, Output,
    Segment, ShareId,
};
use handover_core::frame::plain;
use handover_core::limits::{GROUP, Limits};
use handover_core::message::Message;
use handover_core::time::Time;
use handover_transports::memory::HostId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::links::End;
use super::run::Task;
use super::{Answer, Place, World};
use crate::disk::{Disk, JobKind, wall_clock};

/// Outputs of one input at the most.
const MOST_OUTPUTS: u32 = 300_000;

/// Someone with an engine.
pub(crate) struct Host {
    /// `None` between a crash and a restart.
    engine: Option<Engine>,
    pub(super) identity: Keypair,
    pub(super) limits: Limits,
    pub(crate) disk: Disk,
    /// For the disk alone, so that a draw here leaves all others as they were.
    rng: ChaCha8Rng,
    pub(super) inputs: VecDeque<Input>,
    pub(super) wake: Time,
    pub(super) events: Vec<Event>,
    pub(super) answers: BTreeMap<DownloadId, Answer>,
    /// How often it was started.
    pub(super) life: u32,
    pub(super) outcomes: BTreeMap<DownloadId, DownloadOutcome>,
    ended_shares: BTreeSet<ShareId>,
}

impl Host {
    pub(super) fn new(identity: Keypair, limits: Limits, seed: [u8; 32], now: Time) -> Self {
        let engine = Engine::new(limits.clone(), identity.clone(), seed, now);
        let mut disk = Disk::default();
        disk.clock = wall_clock(0);
        Self {
            engine: Some(engine),
            identity,
            limits,
            disk,
            rng: ChaCha8Rng::from_seed(seed),
            inputs: VecDeque::new(),
            wake: Time::NEVER,
            events: Vec::new(),
            answers: BTreeMap::new(),
            life: 0,
            outcomes: BTreeMap::new(),
            ended_shares: BTreeSet::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    pub(super) fn crash(&mut self) {
        self.engine = None;
        self.wake = Time::NEVER;
        self.life += 1;
        self.inputs.clear();
        self.disk.crash();
    }

    pub(super) fn restart(&mut self, seed: [u8; 32], now: Time) {
        assert!(self.engine.is_none(), "a host is started that runs");
        let limits = self.limits.clone();
        self.engine = Some(Engine::new(limits, self.identity.clone(), seed, now));
        let up_for = i64::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
        self.disk.clock = wall_clock(up_for + 1);
    }

    /// Watches an event: one end each, and nothing after it.
    fn watch(&mut self, event: &Event) {
        let download = download_of(event);
        let ended = download.is_some_and(|id| self.outcomes.contains_key(&id));
        assert!(!ended, "an event of a download that has ended: {event:?}");
        if let Event::DownloadEnded { download, outcome } = event {
            self.outcomes.insert(*download, outcome.clone());
        }
        if let Event::ShareEnded { share, .. } = event {
            let first = self.ended_shares.insert(*share);
            assert!(first, "share {share} ended twice");
        }
    }
}

fn download_of(event: &Event) -> Option<DownloadId> {
    match event {
        Event::Connecting { download, .. }
        | Event::Connected { download, .. }
        | Event::SharerPreparing { download }
        | Event::Offer { download, .. }
        | Event::Progress { download, .. }
        | Event::PathChanged { download, .. }
        | Event::ConnectionLost { download, .. }
        | Event::FileDone { download, .. }
        | Event::FileSkipped { download, .. }
        | Event::FileFailed { download, .. }
        | Event::DownloadEnded { download, .. } => Some(*download),
        _ => None,
    }
}

impl End {
    /// Watches a request: nothing is asked for twice at once, nor more than the window and a group over it, for a
    /// stream goes by whole groups.
    fn ask(&mut self, id: u64, segments: &[Segment], limits: &Limits) {
        let outstanding = self.asked.values().flatten();
        let twice = outstanding.clone().find(|asked| segments.contains(asked));
        assert_eq!(twice, None, "something is asked for twice at once");
        let bytes: u64 = outstanding
            .chain(segments)
            .map(|segment| u64::from(segment.len))
            .sum();
        let most = limits.window + 2 * u64::from(GROUP);
        assert!(bytes <= most, "{bytes} bytes are asked for at once");
        self.asked.insert(id, segments.to_vec());
    }
}

/// Shares that one host has in any scene, at the most.
const SHARES: u64 = 3;

impl World {
    /// Something happens at a host: its engine is told, and does what it then wants.
    pub(crate) fn feed(&mut self, id: HostId, input: Input) {
        self.host_mut(id).inputs.push_back(input);
        self.settle(id);
    }

    /// Hands a host's engine what waits for it.
    pub(super) fn settle(&mut self, id: HostId) {
        while let Some(input) = self.host_mut(id).inputs.pop_front() {
            let now = self.now();
            self.note_input(id, &input);
            let Some(engine) = &mut self.host_mut(id).engine else {
                self.host_mut(id).inputs.clear();
                return;
            };
            engine.handle_input(now, input);
            self.drain_outputs(id, now);
        }
    }

    fn drain_outputs(&mut self, id: HostId, now: Time) {
        for _ in 0..MOST_OUTPUTS {
            let Some(engine) = &mut self.host_mut(id).engine else {
                return;
            };
            match engine.poll_output() {
                Output::Timeout(at) => {
                    assert!(at > now, "a timeout at {at:?}, and it is {now:?}");
                    self.host_mut(id).wake = at;
                    return;
                }
                output => self.perform(id, output),
            }
        }
        panic!("poll_output does not end");
    }

    /// Only queues inputs for the engine; the engine is told once it is through.
    fn perform(&mut self, id: HostId, output: Output) {
        match output {
            Output::Timeout(_) => unreachable!("it ends the outputs"),
            Output::Dial {
                dial,
                peer,
                addresses,
            } => {
                self.trace.note(self.network.now(), id.0, ("dial", dial));
                let most = self.host(id).limits.addresses;
                assert!(addresses.len() <= most, "too many addresses are dialled");
                self.dial(id, dial, peer, &addresses);
            }
            Output::Close { link } => {
                self.trace.note(self.network.now(), id.0, ("close", link));
                self.close(link);
            }
            Output::SendPlain { link, bytes } => {
                let frame = plain(&bytes);
                self.trace.frame(self.network.now(), id.0, &frame);
                self.open_end(link).wire.put(frame);
                self.flush_quietly(link);
            }
            Output::AwaitPlain { link } => self.await_plain(link),
            Output::Keys {
                link,
                keys,
                largest,
            } => self.key(link, keys, largest),
            Output::Send {
                link,
                seq,
                message,
                payload,
            } => self.send(id, link, seq, &message, &payload),
            Output::Disk { job, work } => self.disk_job(id, job, work),
            Output::Event(event) => self.on_event(id, event),
        }
    }

    fn send(&mut self, id: HostId, link: LinkId, seq: u64, message: &Message, payload: &Bytes) {
        let limits = self.host(id).limits.clone();
        let end = self.open_end(link);
        if let Message::Request { id, segments } = message {
            end.ask(*id, segments, &limits);
        }
        let end = self.ends.get_mut(&link).expect("it is open");
        let frame = end.wire.put_sealed(seq, message, payload, &mut self.nonces);
        self.trace.frame(self.network.now(), id.0, &frame);
        self.flush_quietly(link);
        let wire = &self.ends[&link].wire;
        let most = limits.send_buffer + u64::from(GROUP);
        assert!(
            wire.bulk <= most,
            "{} bytes wait for link {link}",
            wire.bulk
        );
        let ends = self.ends.values().filter(|end| end.place == id);
        let (links, total) = ends.fold((0, 0), |(links, total), end| {
            (links + 1, total + end.wire.bulk)
        });
        // A link with nothing under way has one request read, and a few parts of the manifest at the most.
        let most = SHARES * limits.send_buffer_total + links * 4 * u64::from(GROUP);
        assert!(total <= most, "{total} bytes wait in all");
        let wire = &self.ends[&link].wire;
        let idle = usize::try_from(limits.idle_messages).unwrap_or(usize::MAX);
        let most = (idle + 8) * (limits.requests + 2);
        let waiting = wire.waiting();
        assert!(waiting <= most, "{waiting} frames wait for link {link}");
    }

    /// Writes what waits. The engine hears of what is gone later: it is in the middle of something.
    fn flush_quietly(&mut self, link: LinkId) {
        let end = self.ends.get_mut(&link).expect("it is open");
        let gone = end.wire.flush(&mut self.network);
        let place = end.place;
        let sent = gone.into_iter().map(|seq| Input::Sent { link, seq });
        self.host_mut(place).inputs.extend(sent);
    }

    fn disk_job(&mut self, id: HostId, job: JobId, work: DiskWork) {
        let kind = JobKind::of(&work);
        self.trace
            .note(self.network.now(), id.0, ("disk", job, kind));
        let host = self.host_mut(id);
        let written_for = match &work {
            DiskWork::Write { download, .. } => Some(*download),
            _ => None,
        };
        if let Some(download) = written_for {
            let ended = host.outcomes.contains_key(&download);
            assert!(!ended, "a write for a download that has ended");
        }
        let took = host.disk.begin(job, work, &mut host.rng);
        if let Some(download) = written_for {
            let unwritten = host.disk.unwritten(download);
            // What waits, and what was asked for meanwhile on each of two links.
            let most = 3 * host.limits.window + u64::from(GROUP);
            assert!(unwritten <= most, "{unwritten} bytes wait for the disk");
        }
        let users = host.disk.sources.len() + host.disk.landings.len();
        let most = users * (host.limits.disk_jobs + 3);
        assert!(host.disk.jobs() <= most, "{} disk jobs", host.disk.jobs());
        let life = host.life;
        self.schedule(
            took,
            Task::Disk {
                host: id,
                life,
                job,
            },
        );
    }

    fn on_event(&mut self, id: HostId, event: Event) {
        self.trace.event(self.network.now(), id.0, &event);
        if let Event::PeerBlamed { peer, violation } = &event {
            let honest = self.places.iter().any(|place| {
                matches!(place, Place::Host(host) if host.identity.public().to_peer_id() == *peer)
            });
            assert!(!honest, "an honest host is blamed: {violation}");
        }
        let host = self.host_mut(id);
        host.watch(&event);
        if let Event::Offer { download, .. } = &event {
            let download = *download;
            let command = match host.answers.get(&download) {
                Some(Answer::Accept(terms)) => Some(Command::Accept {
                    download,
                    terms: terms.clone(),
                }),
                Some(Answer::Decline) => Some(Command::Decline { download }),
                Some(Answer::Wait) | None => None,
            };
            host.inputs.extend(command.map(Input::Command));
        }
        host.events.push(event);
    }

    fn note_input(&mut self, id: HostId, input: &Input) {
        let now = self.network.now();
        let trace = &mut self.trace;
        match input {
            Input::Command(_) => trace.note(now, id.0, "command"),
            Input::Listening { addresses } => trace.note(now, id.0, addresses),
            Input::LinkUp { link, .. } => trace.note(now, id.0, ("up", link)),
            Input::LinkDown { link, reason } => trace.note(now, id.0, ("down", link, reason)),
            Input::DialFailed { dial, reason } => trace.note(now, id.0, (dial, reason)),
            Input::Plain { link, bytes } => trace.note(now, id.0, (link, bytes)),
            Input::Frame { link, frame } => {
                trace.note(now, id.0, (link, frame.payload.len()));
            }
            Input::BadFrame { link, reason } => trace.note(now, id.0, ("bad", link, reason)),
            Input::Activity { link } => trace.note(now, id.0, ("active", link)),
            Input::Sent { link, seq } => trace.note(now, id.0, (link, seq)),
            Input::Disk { job, .. } => trace.note(now, id.0, job),
            Input::Tick => trace.note(now, id.0, "tick"),
        }
    }
}
