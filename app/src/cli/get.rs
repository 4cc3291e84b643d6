//! `handover get`: a download, from the code to the final message.

mod answer;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover::disk::DownloadTarget;
use handover::landing::{self, Landing};
use handover::{Config, FetchRequest, UnifiedP2PManager};
use handover_core::code::ShareCode;
use handover_core::engine::{
    AcceptTerms, DownloadId, DownloadOutcome, DownloadSummary, Event, PathKind, Progress,
};
use handover_core::{Multiaddr, PeerId};
use tokio::join;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::answer::{Answer, Asking, Decision, Offered};
use super::args::{Get, Global};
use super::data_dir;
use super::exit::Exit;
use super::failure::Failure;
use super::input::{self, Lines};
use super::interrupt::Interrupts;
use super::json;
use super::known::{self, Known};
use super::record::unfinished::Download;
use super::record::{Memory, Recorder, tell_standings};
use super::screen::{Live, Screen, Tone, peers, receiving, sending, throttling};
use super::select::Selection;
use super::throttle::{self, Throttle};
use super::unfinished;

/// Timeout for a download to stop and for peers to learn of it.
const GOODBYE: Duration = Duration::from_secs(2);

/// Downloads the share that the code refers to.
pub(crate) async fn run(
    args: &Get,
    global: &Global,
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    check(args, screen)?;
    let selection = Selection::parse(&args.select)?;
    let mut config = super::config(&args.network, global)?;
    let mut throttle = Throttle::new(args.limits, global)?;
    let mut lines = Lines::default();
    let memory = Memory::new(&config.data_dir, args.no_history)?;
    let met = memory.prepare(&mut config).await;
    config.known_files = config.known_files.filter(|_| !args.no_known);
    config.any_relay = args.any_relay;
    let known = args
        .from
        .as_ref()
        .map(|called| Known::find(&memory.store, called));
    let known = known.transpose()?;
    let code = match &known {
        Some(known) => Some(known.code()),
        None => input::code(args.code.as_deref(), screen, &mut lines, interrupts).await?,
    };
    let Some(code) = code else {
        return Ok(Exit::Interrupted);
    };
    can_look(&code, &config)?;
    if known.is_some() {
        known::can_meet(&config)?;
    }
    let mut options = config.fetch_options();
    options.own_folder = !args.here;
    options.search = args.wait.or(options.search);
    options.remember = args.remember;
    let us = options.name.clone();
    options.seed = !(args.no_seed || args.to_stdout());
    options.seed_for = args.seed_for;
    let target = target(args)?;
    // A peer cannot connect to its own identity, so a second process of the same account (sending to itself from
    // another terminal) gets a temporary identity. With --hide-ip, each run has its own identity unless the other side
    // has to recognise this peer.
    let hides = args.network.hide_ip && known.is_none() && !args.remember;
    let identity = if hides {
        data_dir::disguise(&mut config.data_dir)?
    } else {
        data_dir::claim_or_do_without(&mut config.data_dir)?
    };
    if args.remember {
        known::check_own(&identity, "the other side")?;
    }
    let mut manager = UnifiedP2PManager::new(config)?;
    if let Some(known) = &known {
        known.check(manager.peer(), &identity)?;
    }
    manager.start().await?;
    tell_standings(&met, &manager).await?;
    let folder = (!args.to_stdout()).then_some(args.to.as_path());
    let begun = unfinished::begun(args.code.as_deref()).zip(folder.and_then(unfinished::absolute));
    let begun = begun.map(|(begun, folder)| Download::new(begun, folder));
    let recorder = Recorder::of_download(memory, manager.peer(), folder).going_on(begun);
    throttle.begin(&manager, screen).await?;
    let mut events = manager
        .events()
        .ok_or_else(|| Failure::internal("the peer's events are gone"))?;
    let download = manager
        .fetch(FetchRequest {
            code,
            target,
            options,
        })
        .await?;
    let mut getting = Getting {
        args,
        screen,
        manager: &manager,
        download,
        answer: Answer::new(args, screen, selection),
        in_question: Vec::new(),
        name: String::new(),
        place: args.to.clone(),
        status: None,
        path: None,
        before: None,
        relay_ended: false,
        rounds: 0,
        told_not_found: None,
        told_date: None,
        known: known.map(|known| (known, us)),
        remembered: false,
        recorder,
        seeding: false,
    };
    let result = getting
        .follow(&mut events, &mut lines, &mut throttle, interrupts)
        .await;
    let recorder = getting.into_recorder();
    drop(events);
    tokio::select! {
        _ = async { join!(timeout(GOODBYE, manager.stop()), recorder.finish(screen)) } => {}
        () = interrupts.next() => return Ok(Exit::Interrupted),
    }
    result
}

/// Rejects what is known to be wrong before any peer is contacted.
fn check(args: &Get, screen: &Screen) -> Result<(), Failure> {
    if args.to_stdout() && screen.is_json() {
        return Err(Failure::usage(
            "--json and --output - both want standard output",
            "Leave one of them away.",
        ));
    }
    if !(args.yes || args.accepted || args.to_stdout() || screen.can_ask()) {
        return Err(Failure::usage(
            "nobody can be asked here whether to accept what is offered",
            "To accept it unseen, run the same with --yes.",
        ));
    }
    Ok(())
}

/// A short code contains no address, so the sharer can be found only in the DHT or on the local network.
fn can_look(code: &ShareCode, config: &Config) -> Result<(), Failure> {
    if matches!(code, ShareCode::Short(_)) && !config.has_short_codes() {
        return Err(Failure::usage(
            "a short code is looked for in the DHT and on the local network, and both are left out here",
            "Leave --no-dht, --no-mdns and --loopback away (or name a --bootstrap), or ask the sender for a --ticket.",
        ));
    }
    Ok(())
}

fn target(args: &Get) -> Result<DownloadTarget, Failure> {
    if !args.to_stdout() {
        return Ok(DownloadTarget::Folder(args.to.clone()));
    }
    // `Stdout` is not used because it searches all data for line ends.
    let descriptor = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(Failure::internal)?;
    Ok(DownloadTarget::Pipe(Box::new(File::from(descriptor))))
}

/// State of one download and its display.
struct Getting<'a> {
    args: &'a Get,
    screen: &'a Screen,
    manager: &'a UnifiedP2PManager,
    download: DownloadId,
    answer: Answer<'a>,
    /// Relays about which the user is being asked.
    in_question: Vec<PeerId>,
    /// Name of the share.
    name: String,
    /// Folder in which the files are put.
    place: PathBuf,
    /// The progress line.
    status: Option<Live>,
    /// The path in use, and the previous one.
    path: Option<PathKind>,
    before: Option<PathKind>,
    /// True if the user was told that a relay has ended the connection.
    relay_ended: bool,
    /// Number of lookup rounds without a result, and what was last reported about them.
    rounds: u32,
    told_not_found: Option<bool>,
    /// The date that was last shown, because a wrong date may be the reason.
    told_date: Option<u32>,
    /// The paired peer that the download comes from, and the name that it has to use for this device.
    known: Option<(Known, String)>,
    /// True if the sender was paired during this run.
    remembered: bool,
    recorder: Recorder,
    /// True if the download is complete and being served to others.
    seeding: bool,
}

impl Getting<'_> {
    /// Ends the display of the download and returns its recorder.
    fn into_recorder(self) -> Recorder {
        self.recorder
    }

    async fn follow(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        lines: &mut Lines,
        throttle: &mut Throttle,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        loop {
            tokio::select! {
                () = interrupts.next() => return self.interrupted(events, interrupts).await,
                line = lines.next(), if self.is_asking() => {
                    if let Some(exit) = self.line(line.as_deref()).await? {
                        return Ok(exit);
                    }
                }
                news = throttle.next() => throttle::heed(news, self.manager, self.screen).await?,
                event = events.recv() => {
                    let event = event.ok_or_else(|| Failure::internal("the peer ended unexpectedly"))?;
                    if let Some(outcome) = self.event(event).await? {
                        return self.over(&outcome);
                    }
                }
            }
        }
    }

    /// Shows an event. Returns how the download ended, if it did.
    async fn event(&mut self, event: Event) -> Result<Option<DownloadOutcome>, Failure> {
        let screen = self.screen;
        let landing = self.landing(&event);
        if let Some(event) = json::event(&event, landing.as_ref()) {
            screen.event(&event);
        }
        self.recorder.event(&event);
        match event {
            Event::Connecting {
                attempt, reason, ..
            } if !(self.relay_ended && attempt == 1) => {
                screen.say(
                    Tone::Plain,
                    &receiving::connecting(attempt, reason.as_deref()),
                );
            }
            Event::RelaysInQuestion { relays, .. } => self.relays_in_question(&relays)?,
            // A further link is not reported until it is used.
            Event::Connected { path, .. } if self.path.is_none() => {
                screen.say(Tone::Plain, &receiving::connected(path));
                self.path = Some(path);
            }
            Event::Deputy { path, .. } => {
                screen.say(Tone::Plain, &receiving::stands_in(path));
            }
            Event::SharerPreparing { .. } => screen.say(Tone::Plain, receiving::preparing()),
            Event::SharerPaused { paused, .. } => {
                screen.say(Tone::Plain, throttling::sharer_paused(paused));
            }
            Event::Offer {
                manifest,
                folder,
                taken,
                free,
                kept,
                ..
            } => {
                let offered = Offered::new(manifest, folder, (taken, free), kept);
                self.offered(offered, landing.as_ref()).await?;
            }
            Event::Progress { progress, .. } => self.progress(&progress),
            Event::PathChanged { path, .. } => {
                screen.say(Tone::Plain, &receiving::path_changed(self.path, path));
                self.before = self.path.replace(path);
            }
            Event::Circuits {
                relays, allowance, ..
            } => {
                self.status = None;
                screen.say(Tone::Plain, &receiving::circuits(relays, allowance));
            }
            Event::RelaysSpared { an_hour, .. } => {
                self.status = None;
                screen.say(Tone::Plain, &receiving::relays_spared(an_hour));
            }
            // Relays end connections regularly, so this is reported only once.
            Event::ConnectionLost {
                path: PathKind::Relayed,
                ..
            } => self.relay_ended(),
            Event::ConnectionLost { reason, .. } => {
                self.status = None;
                self.path = None;
                screen.say(Tone::Bad, &receiving::lost(&reason));
            }
            Event::NotFound { reached, day, .. } => self.not_found(reached, day),
            Event::OtherDate { days, .. } => screen.say(Tone::Plain, &receiving::other_date(days)),
            Event::FileSkipped { path, .. } => {
                screen.say(
                    Tone::Plain,
                    &receiving::file_skipped(path.as_str(), screen.width()),
                );
            }
            Event::FileFailed { path, reason, .. } => {
                screen.need(
                    Tone::Bad,
                    &receiving::file_failed(path.as_str(), &reason, screen.width()),
                );
            }
            Event::Paired { peer, name, .. } => {
                self.remembered = true;
                let name = if name.is_empty() {
                    peer.to_string()
                } else {
                    name
                };
                screen.say(Tone::Good, &peers::remembered(&name));
            }
            Event::PeerBlamed { peer, violation } => {
                screen.say(Tone::Bad, &receiving::blamed(&peer, &violation));
            }
            Event::Seeding { summary, time, .. } => {
                self.status = None;
                self.completed(&summary);
                self.seeding = true;
                screen.say(Tone::Plain, &receiving::seeding(time));
            }
            Event::DownloadEnded { outcome, .. } => return Ok(Some(outcome)),
            _ => {}
        }
        Ok(None)
    }

    /// True if the user is being asked something.
    fn is_asking(&self) -> bool {
        !self.in_question.is_empty() || self.answer.asking != Asking::Nothing
    }

    /// Handles a typed line; `None` is the end of standard input. Returns the exit code if the run ends here.
    async fn line(&mut self, line: Option<&str>) -> Result<Option<Exit>, Failure> {
        if !self.in_question.is_empty() {
            return self.relays_line(line).await;
        }
        let decision = self.answer.line(line);
        self.decide(decision).await?;
        Ok(None)
    }

    /// Asks the user about relays: the sharer can be reached only through relays that it has named itself.
    fn relays_in_question(&mut self, relays: &[(PeerId, Multiaddr)]) -> Result<(), Failure> {
        self.status = None;
        let screen = self.screen;
        screen.need(Tone::Plain, &receiving::relays_in_question(relays));
        if !screen.can_ask() {
            return Err(Failure::usage(
                "the other side is reached only through relays of its own choice, and nobody can be asked here whether to use them",
                "Say it with --any-relay, or name a relay that both sides trust with --relay on the other side and here.",
            ));
        }
        screen.ask(receiving::relays_question());
        self.in_question = relays.iter().map(|(relay, _)| *relay).collect();
        Ok(())
    }

    /// Handles a line typed in answer to the question about relays.
    async fn relays_line(&mut self, line: Option<&str>) -> Result<Option<Exit>, Failure> {
        let answer = line.map(|line| line.trim().to_lowercase());
        match answer.as_deref() {
            Some("y" | "yes") => {
                let relays = std::mem::take(&mut self.in_question);
                self.manager.use_relays(self.download, relays).await?;
                Ok(None)
            }
            None | Some("" | "n" | "no" | "q") => {
                self.manager.cancel(self.download).await?;
                self.screen.say(Tone::Plain, receiving::declined());
                Ok(Some(Exit::Declined))
            }
            Some(_) => {
                self.screen.ask(receiving::relays_question());
                Ok(None)
            }
        }
    }

    /// Reports that the sharer was not found. The first round may be too early, while the sharer is still being
    /// announced.
    fn not_found(&mut self, reached: bool, day: Option<u32>) {
        self.rounds += 1;
        let early = reached && self.rounds == 1;
        if !early && self.told_not_found != Some(reached) {
            self.told_not_found = Some(reached);
            self.screen.say(Tone::Plain, receiving::not_found(reached));
        }
        if let Some(day) = day.filter(|day| reached && self.told_date != Some(*day)) {
            self.told_date = Some(day);
            self.screen.say(Tone::Plain, &receiving::check_date(day));
        }
    }

    fn relay_ended(&mut self) {
        if !std::mem::replace(&mut self.relay_ended, true) {
            self.status = None;
            self.screen.say(Tone::Plain, receiving::relay_ended());
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let before = self.before;
        let line = self.status.get_or_insert_with(|| self.screen.live());
        let drawn = |width| receiving::progress(progress, before, width);
        line.show(self.screen, drawn, || receiving::progress_plain(progress));
    }

    async fn decide(&mut self, decision: Decision) -> Result<(), Failure> {
        match decision {
            Decision::Later => {}
            Decision::Decline => self.manager.decline(self.download).await?,
            Decision::Accept {
                select,
                on_conflict,
                executables,
            } => {
                if let Some(summary) = self.answer.summary() {
                    self.screen
                        .say(Tone::Plain, &receiving::accepted(&summary, self.folder()));
                }
                let terms = AcceptTerms {
                    select,
                    on_conflict,
                    executables,
                };
                self.recorder.accepted(on_conflict, executables);
                self.manager.accept(self.download, terms).await?;
            }
        }
        Ok(())
    }

    /// The folder of an offer's files in the file system. `None` for other events and for standard output.
    fn landing(&self, event: &Event) -> Option<Landing> {
        let Event::Offer { folder, .. } = event else {
            return None;
        };
        let place = landing::place(&self.args.to, folder.as_ref());
        (!self.args.to_stdout()).then(|| Landing::below(&place))
    }

    /// Handles an offer.
    async fn offered(
        &mut self,
        offered: Offered,
        landing: Option<&Landing>,
    ) -> Result<(), Failure> {
        self.name = offered.manifest.name().to_string();
        self.place = landing::place(&self.args.to, offered.folder.as_ref());
        let decision = self.answer.offered(offered, landing);
        self.decide(decision).await
    }

    /// Folder in which files are put: the target folder or one below it. `None` for standard output.
    fn folder(&self) -> Option<&Path> {
        (!self.args.to_stdout()).then_some(self.place.as_path())
    }

    fn over(&mut self, outcome: &DownloadOutcome) -> Result<Exit, Failure> {
        self.status = None;
        match outcome {
            DownloadOutcome::Completed(done) => Ok(self.completed(done)),
            // An offer declined because nobody could be asked has a reason to report.
            DownloadOutcome::Declined => {
                if let Some(failure) = self.answer.refused.take() {
                    return Err(failure);
                }
                self.screen.say(Tone::Plain, receiving::declined());
                Ok(Exit::Declined)
            }
            DownloadOutcome::Cancelled | DownloadOutcome::Suspended => Ok(Exit::Interrupted),
            DownloadOutcome::Failed(error) => {
                let known = self.known.as_ref();
                let failure = known.and_then(|(known, us)| known.failure(error, us));
                Err(failure.unwrap_or_else(|| Failure::of_download(error)))
            }
        }
    }

    fn completed(&self, done: &DownloadSummary) -> Exit {
        let failed = done.failed > 0;
        let tone = if failed { Tone::Bad } else { Tone::Good };
        if !self.seeding {
            self.screen
                .say(tone, &receiving::closing(&self.name, done, self.folder()));
        }
        if self.args.remember && !self.remembered {
            self.screen.say(Tone::Plain, peers::not_agreed());
        }
        if failed { Exit::Incomplete } else { Exit::Done }
    }

    /// Suspends the download and waits a moment for it to end.
    async fn interrupted(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        self.status = None;
        self.screen
            .say(Tone::Plain, &format!("\n{}", sending::stopping()));
        self.manager.suspend(self.download).await?;
        let ended = async {
            while let Some(event) = events.recv().await {
                let landing = self.landing(&event);
                if let Some(event) = json::event(&event, landing.as_ref()) {
                    self.screen.event(&event);
                }
                self.recorder.event(&event);
                if let Event::DownloadEnded { outcome, .. } = event {
                    return Some(outcome);
                }
            }
            None
        };
        tokio::select! {
            ended = timeout(GOODBYE, ended) => match ended {
                // The download was complete; only seeding was interrupted.
                Ok(Some(DownloadOutcome::Completed(done))) if self.seeding => {
                    return Ok(self.completed(&done));
                }
                Ok(Some(DownloadOutcome::Suspended)) => {
                    self.screen.say(Tone::Plain, receiving::suspended());
                }
                Ok(_) => self.screen.say(Tone::Plain, receiving::cancelled()),
                Err(_) => {}
            },
            () = interrupts.next() => {}
        }
        Ok(Exit::Interrupted)
    }
}
