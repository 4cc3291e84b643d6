//! A host: its engine, its disk and its user's view, and a driver that checks the engine's behaviour.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use handover_core::Keypair;
use handover_core::code::{ShortCode, Ticket};
use handover_core::engine::{
    Command, DiskWork, DownloadId, DownloadOutcome, Engine, Event, Input, JobId, LinkId, LookUpId,
    Output, ShareId,
};
use handover_core::frame::plain;
use handover_core::limits::{GROUP, Limits};
use handover_core::message::Message;
use handover_core::time::Time;
use handover_transports::memory::HostId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::paced::Paced;
use super::proofs::Proofs;
use super::relays::Through;
use super::run::Task;
use super::{Answer, World};
use crate::disk::{Disk, JobKind, wall_clock};
use crate::ledger::{Fault, happened, promise};

/// Maximum number of outputs for one input.
const MOST_OUTPUTS: u32 = 300_000;

/// A simulated machine with an engine.
pub(crate) struct Host {
    /// `None` between a crash and a restart.
    engine: Option<Engine>,
    pub(super) identity: Keypair,
    pub(super) limits: Limits,
    pub(crate) disk: Disk,
    /// Used only for the disk, so that draws here do not affect other random choices.
    rng: ChaCha8Rng,
    pub(super) inputs: VecDeque<Input>,
    pub(super) wake: Time,
    pub(super) events: Vec<Event>,
    pub(super) answers: BTreeMap<DownloadId, Answer>,
    /// Number of crashes so far. Identifies the current run of the engine.
    pub(super) life: u32,
    pub(super) outcomes: BTreeMap<DownloadId, DownloadOutcome>,
    pub(crate) ended_shares: BTreeSet<ShareId>,
    /// Links that are down, but not yet reported to the engine. Outputs for them are ignored.
    pub(super) untold: BTreeSet<LinkId>,
    /// Until this time the host is suspended.
    pub(super) asleep_until: Time,
    /// For this many inputs the driver's clock is behind by this duration.
    pub(super) clock_back: (u32, Duration),
    /// Its files have bit rot, so it may serve wrong content without knowing.
    pub(crate) rotten: bool,
    /// Downloads that the user has cancelled or declined.
    cancelled: BTreeSet<DownloadId>,
    /// The session number that each download sends to its sharer.
    pub(crate) sessions: BTreeMap<DownloadId, u64>,
    greeting: u64,
    /// Lookups in progress.
    pub(super) lookups: BTreeSet<LookUpId>,
    /// Number of dials so far.
    pub(super) dials: u64,
    /// The tag of each share created here.
    pub(super) shares: BTreeMap<ShareId, [u8; 16]>,
    /// Number of wrong guesses at each share's code in earlier runs.
    pub(super) guessed: BTreeMap<ShareId, u32>,
    /// Shares whose short code is active, with the number of wrong guesses.
    pub(super) codes: BTreeMap<ShareId, u32>,
    /// The tag of the share that each download fetches.
    pub(super) tags: BTreeMap<DownloadId, [u8; 16]>,
    /// Rate limits set by the user.
    pub(super) paced: Paced,
    /// Bytes requested through each relay that ends circuits by a limit.
    pub(super) through: BTreeMap<usize, Through>,
    /// Password proofs sent.
    pub(super) proofs: Proofs,
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
            untold: BTreeSet::new(),
            asleep_until: Time::ZERO,
            clock_back: (0, Duration::ZERO),
            rotten: false,
            cancelled: BTreeSet::new(),
            sessions: BTreeMap::new(),
            greeting: 0,
            lookups: BTreeSet::new(),
            dials: 0,
            shares: BTreeMap::new(),
            guessed: BTreeMap::new(),
            codes: BTreeMap::new(),
            tags: BTreeMap::new(),
            paced: Paced::default(),
            through: BTreeMap::new(),
            proofs: Proofs::default(),
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
        self.asleep_until = Time::ZERO;
        self.untold.clear();
        self.codes.clear();
        self.lookups.clear();
        self.paced = Paced::default();
        self.through.clear();
        self.proofs.crash();
        self.disk.crash(&mut self.rng);
    }

    pub(super) fn restart(&mut self, seed: [u8; 32], now: Time) {
        assert!(self.engine.is_none(), "a host is started that runs");
        let limits = self.limits.clone();
        self.engine = Some(Engine::new(limits, self.identity.clone(), seed, now));
        let up_for = i64::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
        self.disk.clock = wall_clock(up_for + 1);
    }

    /// The time according to the driver, which may be behind for a moment.
    fn clock(&mut self, now: Time) -> Time {
        let (inputs, behind) = &mut self.clock_back;
        if *inputs == 0 {
            return now;
        }
        *inputs -= 1;
        Time::ZERO + now.since(Time::ZERO).saturating_sub(*behind)
    }

    /// Records commands that the invariants depend on.
    fn note_command(&mut self, command: &Command) {
        if let Command::Cancel { download } | Command::Decline { download } = command
            && self.engine.is_some()
        {
            self.cancelled.insert(*download);
        }
    }

    /// Checks that the number of wrong guesses stays within the limit.
    fn watch_guesses(&mut self, event: &Event) {
        match event {
            Event::WrongWords { share, left } => {
                let most = self.limits.guesses;
                let wrong = self.codes.get_mut(share).map(|wrong| {
                    *wrong += 1;
                    *wrong
                });
                promise!(
                    Guesses,
                    wrong.is_some_and(|wrong| wrong <= most && *left < most),
                    "guess {wrong:?} of {most} was answered, and {left} are said to be left"
                );
            }
            Event::CodeBurnt { share } | Event::ShareEnded { share, .. } => {
                self.codes.remove(share);
            }
            _ => {}
        }
    }

    /// Checks an event: every share and download ends once, and nothing follows its end.
    fn watch(&mut self, event: &Event) {
        self.watch_guesses(event);
        let download = download_of(event);
        let ended = download.is_some_and(|id| self.outcomes.contains_key(&id));
        promise!(
            EndsOnce,
            !ended,
            "an event of a download that has ended: {event:?}"
        );
        if let Event::DownloadEnded { download, outcome } = event {
            self.outcomes.insert(*download, outcome.clone());
        }
        if let Event::Connected { download, .. } = event {
            self.sessions.insert(*download, self.greeting);
        }
        if let Event::ShareEnded { share, .. } = event {
            let first = self.ended_shares.insert(*share);
            promise!(EndsOnce, first, "share {share} ended twice");
        }
    }
}

fn download_of(event: &Event) -> Option<DownloadId> {
    match event {
        Event::Connecting { download, .. }
        | Event::Connected { download, .. }
        | Event::SharerPreparing { download }
        | Event::SharerPaused { download, .. }
        | Event::Offer { download, .. }
        | Event::Resumable { download, .. }
        | Event::Progress { download, .. }
        | Event::PathChanged { download, .. }
        | Event::Circuits { download, .. }
        | Event::RelaysSpared { download, .. }
        | Event::RelaysInQuestion { download, .. }
        | Event::ConnectionLost { download, .. }
        | Event::Deputy { download, .. }
        | Event::SourceJoined { download, .. }
        | Event::SourceLeft { download, .. }
        | Event::Delivered { download, .. }
        | Event::Carried { download, .. }
        | Event::Seeding { download, .. }
        | Event::FileDone { download, .. }
        | Event::FileSkipped { download, .. }
        | Event::FileFailed { download, .. }
        | Event::DownloadEnded { download, .. } => Some(*download),
        _ => None,
    }
}

impl World {
    /// Queues an input for a host's engine, and runs the engine.
    pub(crate) fn feed(&mut self, id: HostId, input: Input) {
        self.host_mut(id).inputs.push_back(input);
        self.settle(id);
    }

    /// Passes all queued inputs to a host's engine.
    pub(super) fn settle(&mut self, id: HostId) {
        let world_now = self.now();
        if self.host(id).asleep_until > world_now {
            return;
        }
        while let Some(input) = self.host_mut(id).inputs.pop_front() {
            let now = self.host_mut(id).clock(world_now);
            self.note_input(id, &input);
            match &input {
                Input::LinkDown { link, .. } => {
                    self.host_mut(id).untold.remove(link);
                }
                Input::Command(command) => self.host_mut(id).note_command(command),
                Input::Frame { link, frame } => self.note_message(id, *link, frame),
                _ => {}
            }
            let host = self.host_mut(id);
            let Some(engine) = &mut host.engine else {
                host.inputs.clear();
                return;
            };
            host.paced.note(&input, now);
            engine.handle_input(now, input);
            self.drain_outputs(id, now);
        }
        self.look_for_lies(id);
    }

    fn drain_outputs(&mut self, id: HostId, now: Time) {
        for _ in 0..MOST_OUTPUTS {
            let Some(engine) = &mut self.host_mut(id).engine else {
                return;
            };
            match engine.poll_output() {
                Output::Timeout(at) => {
                    promise!(Progress, at > now, "a timeout at {at:?}, and it is {now:?}");
                    self.host_mut(id).wake = at;
                    return;
                }
                output => self.perform(id, output),
            }
        }
        promise!(Progress, false, "poll_output does not end");
    }

    /// Executes an output. Only queues inputs for the engine, which get processed after all outputs.
    fn perform(&mut self, id: HostId, output: Output) {
        self.narrate_output(id, &output);
        if let Output::SendPlain { link, .. }
        | Output::AwaitPlain { link }
        | Output::Keys { link, .. }
        | Output::Send { link, .. } = &output
            && self.host(id).untold.contains(link)
        {
            return;
        }
        match output {
            Output::Timeout(_) => unreachable!("it ends the outputs"),
            Output::Dial {
                dial,
                peer,
                addresses,
            } => {
                self.trace.note(self.network.now(), id.0, ("dial", dial));
                self.look_at_dials(id, addresses.len());
                self.dial(id, dial, peer, &addresses);
            }
            Output::Close { link } => {
                self.trace.note(self.network.now(), id.0, ("close", link));
                self.close(link);
            }
            Output::SendPlain { link, bytes } => {
                self.look_for_tags(&bytes);
                let host = self.host_mut(id);
                host.proofs.said(link, &bytes, host.limits.guesses);
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
            } => {
                self.host_mut(id).proofs.keyed(link);
                self.key(link, keys, largest);
            }
            Output::Send {
                link,
                seq,
                message,
                payload,
            } => self.send(id, link, seq, &message, &payload),
            Output::Disk { job, work } => self.disk_job(id, job, work),
            Output::Announce { place } => {
                self.trace
                    .note(self.network.now(), id.0, ("announce", place));
                self.announce_at(id, place);
            }
            Output::Withdraw { place } => {
                self.trace
                    .note(self.network.now(), id.0, ("withdraw", place));
            }
            Output::LookUp { lookup, place } => {
                self.trace
                    .note(self.network.now(), id.0, ("look up", lookup));
                self.look_up(id, lookup, place);
            }
            Output::EndLookUp { lookup } => {
                self.trace
                    .note(self.network.now(), id.0, ("no look up", lookup));
                self.host_mut(id).lookups.remove(&lookup);
            }
            Output::Reach { peer, addresses } => {
                self.trace
                    .note(self.network.now(), id.0, ("reach", &addresses));
                self.call_back(id, peer, &addresses);
            }
            Output::Event(event) => self.on_event(id, event),
        }
    }

    fn send(&mut self, id: HostId, link: LinkId, seq: u64, message: &Message, payload: &Bytes) {
        self.open_end(link);
        match message {
            Message::Request {
                id: number,
                segments,
            } => {
                self.ask(id, link, *number, segments);
                self.look_at_asking(id, link, segments);
                self.look_at_relays(id, link, segments);
            }
            Message::Data { .. } if !payload.is_empty() => {
                self.look_at_serving(id, payload.len());
            }
            Message::Secret { .. } => {
                let alive = !self.host(id).codes.is_empty();
                promise!(Guesses, alive, "a code that is dead lets somebody in");
            }
            Message::Hello { session, .. } => {
                self.host_mut(id).greeting = *session;
                self.greeted.insert(link, *session);
                self.look_at_circuits(id, link);
            }
            _ => {}
        }
        let end = self.ends.get_mut(&link).expect("it is open");
        let frame = end.wire.put_sealed(seq, message, payload, &mut self.nonces);
        self.trace.frame(self.network.now(), id.0, &frame);
        self.outgoing(link);
        self.flush_quietly(link);
        self.look_at_buffers(id, link);
    }

    /// Writes queued frames. Only queues the notification for the engine, which is still processing outputs.
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
        host.paced.note_work(job, &work);
        let written_for = match &work {
            DiskWork::Write { download, .. }
            | DiskWork::Publish { download, .. }
            | DiskWork::Sync { download, .. }
            | DiskWork::Journal { download, .. }
            | DiskWork::Adopt { download, .. }
            | DiskWork::Reuse { download, .. }
            | DiskWork::Stage { download, .. }
            | DiskWork::Finish { download, .. } => Some(*download),
            _ => None,
        };
        if let Some(download) = written_for {
            let ended = host.outcomes.contains_key(&download);
            promise!(EndsOnce, !ended, "{kind:?} for a download that has ended");
            let cancelled = host.cancelled.contains(&download);
            promise!(Cancelled, !cancelled, "{kind:?} after a cancel");
        }
        let took = host.disk.begin(job, work, &mut host.rng);
        if let Some(download) = written_for {
            let unwritten = host.disk.unwritten(download);
            // One window waiting, plus what was requested meanwhile on each of two links.
            let most = 3 * host.limits.window + u64::from(GROUP);
            promise!(
                Bounded,
                unwritten <= most,
                "{unwritten} bytes wait for the disk"
            );
        }
        let users = host.disk.sources.len() + host.disk.landings.len();
        // Reads for receivers. For a download: two writes, two copies and one job of every other kind.
        let most = users * (host.limits.disk_jobs + 8);
        let jobs = host.disk.jobs();
        promise!(Bounded, jobs <= most, "{jobs} disk jobs");
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
        self.tell_of(id, || format!("▸ {event:?}"));
        self.look_for_secrets(&event);
        self.endings += u64::from(matches!(
            event,
            Event::DownloadEnded { .. } | Event::ShareEnded { .. } | Event::ShutDown
        ));
        match &event {
            Event::PeerBlamed { peer, violation } => self.judge_blame(*peer, violation),
            Event::ShareOpen {
                share,
                ticket,
                short: Some(code),
            } => self.has_code(id, *share, ticket, code),
            Event::PathChanged { .. } => happened(Fault::BetterPath),
            Event::Circuits { .. } => happened(Fault::Circuits),
            Event::RelaysSpared { .. } => happened(Fault::RelaysSpared),
            Event::SourceJoined { .. } => happened(Fault::Seeder),
            Event::Deputy { .. } => happened(Fault::Deputy),
            Event::Offer { download, .. } => {
                let tag = self.host(id).tags.get(download);
                let forged = tag.is_some_and(|tag| self.forged.contains(tag));
                promise!(Dropped, !forged, "a forged manifest is shown to the user");
            }
            Event::FileDone { download, path, .. } => {
                self.look_at_file(id, *download, path.as_str())
            }
            _ => {}
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

    /// Records that a share's short code is known to its user.
    fn has_code(&mut self, id: HostId, share: ShareId, ticket: &Ticket, code: &ShortCode) {
        self.short_codes.insert(code.number(), ticket.secret.tag());
        let host = self.host_mut(id);
        let before = host.guessed.get(&share).copied().unwrap_or_default();
        host.codes.entry(share).or_insert(before);
    }

    fn note_input(&mut self, id: HostId, input: &Input) {
        self.narrate_input(id, input);
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
            Input::Nearby { addresses, .. } => trace.note(now, id.0, ("near", addresses)),
            Input::NearbyGone { .. } => trace.note(now, id.0, "gone"),
            Input::Announced { place, report } => trace.note(now, id.0, (place, report)),
            Input::Found {
                lookup, addresses, ..
            } => trace.note(now, id.0, ("found", lookup, addresses)),
            Input::LookedUp { lookup, reached } => trace.note(now, id.0, (lookup, reached)),
            Input::Path { path, .. } => trace.note(now, id.0, ("path", path)),
            Input::Date { day } => trace.note(now, id.0, ("day", day)),
            Input::Standing { standing, .. } => trace.note(now, id.0, ("standing", standing)),
            Input::Tick => trace.note(now, id.0, "tick"),
        }
    }
}
