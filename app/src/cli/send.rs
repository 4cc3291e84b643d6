//! `handover send`: a share, from its code to the last receiver.

mod known_peer;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handover::disk::ShareInput;
use handover::store::OpenShare;
use handover::{ShareInfo, ShareRequest, UnifiedP2PManager};
use handover_core::code::{LegacyCode, ShortCode, Ticket};
use handover_core::engine::{
    Event, ManifestSummary, PathKind, ReceiverOutcome, SessionId, ShareEnd, ShareId, ShareLabel,
    Short,
};
use tokio::join;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::args::{Global, Send};
use super::data_dir;
use super::exit::Exit;
use super::failure::Failure;
use super::interrupt::Interrupts;
use super::json;
use super::known::{self, Known};
use super::record::unfinished::Share;
use super::record::{Memory, Recorder, tell_standings};
use super::screen::meter::Meter;
use super::screen::sending::{self, Receiving};
use super::screen::{Live, Screen, Tone, receiving};
use super::throttle::{self, Throttle};
use super::unfinished::{Claimed, changed, listing};

/// Time for which the code waits for the scan of the files, so that its result is shown above the code.
const QUICK_LISTING: Duration = Duration::from_millis(300);
/// The code is printed when no new address has arrived for this long. Addresses arrive one by one.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(60);
/// Time to wait for a first address before a code without addresses is printed.
const NO_ADDRESS: Duration = Duration::from_secs(1);
/// Timeout for peers to learn that the share has ended.
const GOODBYE: Duration = Duration::from_secs(2);
/// Default name of a stream.
const STREAM: &str = "stdin";

/// Serves the share until it is stopped, has expired, or has been downloaded often enough.
pub(crate) async fn run(
    args: &Send,
    global: &Global,
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let input = input(args)?;
    let mut config = super::config(&args.network, global)?;
    let mut throttle = Throttle::new(args.limits, global)?;
    config.lan = args.lan || args.legacy;
    let memory = Memory::new(&config.data_dir, args.no_history)?;
    let met = memory.prepare(&mut config).await;
    let known = args
        .to
        .as_ref()
        .map(|called| Known::find(&memory.store, called));
    let known = known.transpose()?;
    if known.is_some() {
        known::can_meet(&config)?;
    }
    let identity = data_dir::claim_or_do_without(&mut config.data_dir)?;
    if args.remember {
        known::check_own(&identity, "the other side")?;
    }
    let author = args
        .author
        .clone()
        .unwrap_or_else(|| config.device_name.clone());
    let label = ShareLabel {
        name: args.name.clone().unwrap_or_else(|| name_of(&args.paths)),
        description: args.description.clone(),
        author,
    };
    let us = label.author.clone();
    let mut options = config.share_options();
    options.words = args.words;
    options.uses = args.limit();
    options.expires = args.expires;
    options.remember = args.remember;
    if let Some(known) = &known {
        known.only(&mut options);
    }
    let by_ticket = args.ticket || args.legacy || options.short == Short::None;
    if by_ticket {
        options.short = Short::None;
    }
    let has_dht = config.has_dht();
    let mut claimed = if identity.is_borrowed() {
        None
    } else {
        Claimed::of(args, by_ticket, &memory)
    };
    let mut manager = UnifiedP2PManager::new(config)?;
    if let Some(known) = &known {
        known.check(manager.peer(), &identity)?;
    }
    manager.start().await?;
    tell_standings(&met, &manager).await?;
    let again = claimed
        .as_mut()
        .and_then(|claimed| claimed.go_on(manager.peer(), &mut options));
    let serving = claimed
        .as_ref()
        .map(|claimed| Share::new(claimed, &label.name, manager.peer(), options.expires));
    let recorder = Recorder::of_share(memory, manager.peer(), &label.name).serving_again(serving);
    let before = again.as_ref().and(claimed.as_ref());
    let before = before.and_then(|claimed| claimed.before.clone());
    if before.is_some() {
        screen.say(Tone::Plain, sending::again());
    }
    throttle.begin(&manager, screen).await?;
    let mut events = manager
        .events()
        .ok_or_else(|| Failure::internal("the peer's events are gone"))?;
    let opened = manager
        .share(ShareRequest {
            label,
            input,
            options,
            secret: again.or(known.as_ref().map(Known::shared_with)),
        })
        .await;
    let mut sending = match opened {
        Ok(info) => {
            let codes = Codes {
                by_ticket,
                has_dht,
                known: known.map(|known| (known, us)),
            };
            Sending {
                before,
                ..Sending::new(args, screen, &manager, info, codes, recorder)
            }
        }
        Err(error) => return Err(why_not(&mut events).unwrap_or_else(|| error.into())),
    };
    let result = sending.serve(&mut events, &mut throttle, interrupts).await;
    let recorder = sending.into_recorder();
    drop(events);
    tokio::select! {
        _ = async { join!(timeout(GOODBYE, manager.stop()), recorder.finish(screen)) } => {}
        () = interrupts.next() => return Ok(Exit::Interrupted),
    }
    result
}

/// Finds out from the events why a share could not be opened.
fn why_not(events: &mut mpsc::Receiver<Event>) -> Option<Failure> {
    while let Ok(event) = events.try_recv() {
        if let Event::ShareEnded { reason, .. } = event {
            return Failure::of_share(&reason);
        }
    }
    None
}

/// Returns what is to be shared. Wrong paths are reported before anything else happens.
fn input(args: &Send) -> Result<ShareInput, Failure> {
    let stream = Path::new("-");
    if args.paths.iter().all(|path| path != stream) {
        for path in &args.paths {
            if let Err(error) = path.metadata() {
                return Err(Failure::usage(
                    format!("can't share {}: {error}", path.display()),
                    "",
                ));
            }
        }
        return Ok(ShareInput::Paths(args.paths.clone()));
    }
    if args.paths.len() > 1 {
        return Err(Failure::usage(
            "a stream (-) can't be shared together with files",
            "",
        ));
    }
    if io::stdin().is_terminal() {
        return Err(Failure::usage(
            "standard input is a terminal, so there is no stream to share",
            "Put a program before it: tar c ./mods | handover send -",
        ));
    }
    Ok(ShareInput::Pipe {
        reader: Box::new(io::stdin()),
        name: args.name.clone().unwrap_or_else(|| STREAM.to_string()),
    })
}

/// Returns the default name of a share.
fn name_of(paths: &[PathBuf]) -> String {
    let Some(first) = paths.first() else {
        return String::new();
    };
    if first == Path::new("-") {
        return STREAM.to_string();
    }
    let named = first.file_name().map(ToOwned::to_owned);
    let name = named.or_else(|| {
        first
            .canonicalize()
            .ok()?
            .file_name()
            .map(ToOwned::to_owned)
    });
    let name = name
        .unwrap_or_else(|| first.clone().into())
        .to_string_lossy()
        .into_owned();
    match paths.len() {
        1 => name,
        number => format!("{name} and {} more", number - 1),
    }
}

/// State of one share and its display.
struct Sending<'a> {
    args: &'a Send,
    screen: &'a Screen,
    manager: &'a UnifiedP2PManager,
    share: ShareId,
    name: String,
    codes: Codes,
    ticket: Ticket,
    short: Option<ShortCode>,
    /// The code that was printed last; empty if the share has none.
    printed: Option<String>,
    /// True if the user was told that the code cannot be found.
    unreached: bool,
    summary: Option<ManifestSummary>,
    /// What an earlier run stored of this share.
    before: Option<OpenShare>,
    /// Progress line for the hashing of files ahead of requests.
    hashing: Option<Live>,
    receivers: BTreeMap<SessionId, Receiver>,
    completed: u32,
    failed_files: bool,
    /// Number of receivers paired during this run.
    remembered: u32,
    recorder: Recorder,
}

/// Selects the code to print.
struct Codes {
    /// Print the long code.
    by_ticket: bool,
    /// The share can be found in the DHT, so a long code stays valid when addresses change.
    has_dht: bool,
    /// The paired peer that the share is for, and the name that it has to use for this device. No code is needed.
    known: Option<(Known, String)>,
}

/// State of one receiver and its display.
struct Receiver {
    name: String,
    at: Receiving,
    meter: Meter,
    /// Start of the fetch; until then, the time of joining.
    since: Instant,
    fetching: bool,
    line: Live,
}

impl<'a> Sending<'a> {
    fn new(
        args: &'a Send,
        screen: &'a Screen,
        manager: &'a UnifiedP2PManager,
        info: ShareInfo,
        codes: Codes,
        recorder: Recorder,
    ) -> Self {
        Self {
            args,
            screen,
            manager,
            share: info.share,
            name: info.label.name,
            codes,
            ticket: info.ticket,
            short: info.short,
            printed: None,
            unreached: false,
            summary: None,
            before: None,
            hashing: None,
            receivers: BTreeMap::new(),
            completed: 0,
            failed_files: false,
            remembered: 0,
            recorder,
        }
    }

    /// Ends the display of the share and returns its recorder.
    fn into_recorder(self) -> Recorder {
        self.recorder
    }

    async fn serve(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        throttle: &mut Throttle,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let opened = Instant::now();
        let mut addressed = opened;
        loop {
            let due = self.print_at(opened, addressed);
            tokio::select! {
                () = interrupts.next() => return self.interrupted(events, interrupts).await,
                event = events.recv() => {
                    let event = event.ok_or_else(|| Failure::internal("the peer ended unexpectedly"))?;
                    if matches!(event, Event::ShareOpen { .. }) {
                        addressed = Instant::now();
                    }
                    if let Some(reason) = self.event(event) {
                        return self.over(&reason);
                    }
                }
                () = sleep_until(due.unwrap_or(opened).into()), if due.is_some() => {
                    if !self.invited() {
                        self.print_code();
                    }
                }
                news = throttle.next() => throttle::heed(news, self.manager, self.screen).await?,
            }
        }
    }

    /// Time at which the code is to be printed. `None` if it has been printed or does not exist yet.
    fn print_at(&self, opened: Instant, addressed: Instant) -> Option<Instant> {
        let listed = if self.summary.is_some() {
            opened
        } else {
            opened + QUICK_LISTING
        };
        if self.codes.known.is_some() {
            return self.printed.is_none().then_some(listed);
        }
        if !self.codes.by_ticket {
            // The engine first looks up whether the number of the code is free.
            let known = self.short.is_some().then_some(listed);
            return known.filter(|_| self.printed.is_none());
        }
        // Programs are told about every change. Users have already passed the code on.
        let stays = self.codes.has_dht && self.printed.is_some() && !self.screen.is_json();
        if stays || self.printed.as_deref() == Some(&self.ticket.encode()) {
            return None;
        }
        if self.ticket.addresses.is_empty() {
            return Some(opened.max(addressed) + NO_ADDRESS);
        }
        let settled = addressed + ADDRESSES_SETTLE;
        Some(settled.max(listed))
    }

    fn print_code(&mut self) {
        let screen = self.screen;
        let again = self.printed.is_some();
        let loopback = self.args.network.loopback;
        let short = self.short.as_ref().map(ShortCode::encode);
        let code = match &short {
            Some(short) if !self.codes.by_ticket => short.clone(),
            _ => self.ticket.encode(),
        };
        let legacy = LegacyCode::of(&self.ticket)
            .filter(|_| self.args.legacy)
            .map(|code| code.encode());
        screen.event(&json::share_open(
            self.share,
            &self.ticket,
            legacy.as_deref(),
            short.as_deref(),
        ));
        if self.ticket.addresses.is_empty() && self.codes.by_ticket && !self.codes.has_dht {
            screen.need(Tone::Bad, sending::no_addresses());
        }
        let invitation = if again {
            sending::new_code()
        } else {
            sending::invitation(loopback)
        };
        screen.say(Tone::Plain, &format!("{invitation}\n"));
        let bootstrap = &self.args.network.bootstrap;
        let command = sending::command(&code, loopback, bootstrap);
        screen.need(Tone::Strong, &command);
        screen.say(Tone::Plain, "");
        if let Some(picture) = self.args.qr.then(|| sending::qr(&code)).flatten() {
            screen.need(Tone::Plain, &picture);
        }
        if self.args.legacy {
            screen.need(Tone::Plain, &sending::legacy(legacy.as_deref()));
        }
        if !again {
            if self.codes.by_ticket {
                screen.say(Tone::Faint, sending::invitation_note());
            }
            screen.say(Tone::Plain, sending::waiting());
        }
        if !screen.is_json() && !io::stdout().is_terminal() {
            screen.data(&code);
        }
        self.printed = Some(code);
    }

    /// Shows an event. Returns why the share ended, if it did.
    fn event(&mut self, event: Event) -> Option<ShareEnd> {
        if let Some(event) = json::event(&event, None) {
            self.screen.event(&event);
        }
        self.recorder.event(&event);
        match event {
            Event::ShareOpen { ticket, short, .. } => {
                self.ticket = ticket;
                self.short = short;
            }
            Event::Announced { findable, .. } => {
                let is_found = findable.is_found();
                // Success is shown only after a failure.
                if self.unreached || !is_found {
                    let tone = if is_found { Tone::Plain } else { Tone::Bad };
                    self.screen.say(tone, sending::announced(findable));
                }
                self.unreached = !is_found;
            }
            Event::WrongWords { left, .. } => {
                self.screen.need(Tone::Bad, &sending::wrong_words(left));
                if left == 0 {
                    let network = &self.args.network;
                    let code = self.ticket.encode();
                    let command = sending::command(&code, network.loopback, &network.bootstrap);
                    self.screen.need(Tone::Strong, &command);
                }
            }
            Event::ShareScanned {
                summary,
                skipped,
                manifest,
                ..
            } => {
                self.summary = Some(summary);
                if let Some(before) = self.before.take() {
                    let changed = changed(&before.listing, &listing(&manifest));
                    self.changed(&changed);
                }
                self.screen
                    .say(Tone::Plain, &sending::scanned(&self.name, &summary));
                if let Some(left_out) = sending::left_out(&skipped, self.screen.width()) {
                    self.screen.need(Tone::Bad, &left_out);
                }
            }
            Event::ShareHashed { done, total, .. } => self.hashed(done, total),
            Event::ReceiverJoined {
                session,
                name,
                path,
                ..
            } => self.joined(session, &name, path),
            Event::ReceiverProgress {
                session,
                path,
                rtt,
                done,
                total,
                ..
            } => {
                self.progress(session, path, rtt, (done, total));
            }
            Event::ReceiverLeft {
                session,
                outcome,
                sent,
                ..
            } => self.left(session, &outcome, sent),
            Event::ShareFileFailed { path, error, .. } => {
                self.failed_files = true;
                let line =
                    sending::file_failed(path.as_str(), &error.to_string(), self.screen.width());
                self.screen.need(Tone::Bad, &line);
            }
            Event::Paired { peer, name, .. } => self.paired(peer, name),
            Event::PeerBlamed { peer, violation } => {
                self.screen
                    .say(Tone::Bad, &receiving::blamed(&peer, &violation));
            }
            Event::ShareEnded { reason, .. } => return Some(reason),
            _ => {}
        }
        None
    }

    /// Reports files that have changed since an earlier run listed them.
    fn changed(&self, names: &[String]) {
        if !names.is_empty() {
            self.screen.event(&json::share_changed(self.share, names));
            let line = sending::changed(names, self.screen.width());
            self.screen.need(Tone::Bad, &line);
        }
    }

    fn hashed(&mut self, done: u64, total: u64) {
        if done >= total || self.printed.is_none() || !self.receivers.is_empty() {
            self.hashing = None;
            return;
        }
        let line = self.hashing.get_or_insert_with(|| self.screen.live());
        let text = sending::hashing(done, total);
        line.show(self.screen, |_| text.clone(), || text.clone());
    }

    fn joined(&mut self, session: SessionId, name: &str, path: PathKind) {
        self.hashing = None;
        let name = self.tell_apart(if name.is_empty() { "a receiver" } else { name });
        self.screen.say(Tone::Plain, &sending::joined(&name, path));
        let receiver = Receiver {
            name,
            at: Receiving {
                done: 0,
                total: 0,
                rate: 0,
                path,
                before: None,
                rtt: None,
            },
            meter: Meter::default(),
            since: Instant::now(),
            fetching: false,
            line: self.screen.live(),
        };
        self.receivers.insert(session, receiver);
    }

    /// Makes the name of a receiver unique, as two may have the same name.
    fn tell_apart(&self, name: &str) -> String {
        let used = |name: &str| {
            self.receivers
                .values()
                .any(|receiver| receiver.name == name)
        };
        if !used(name) {
            return name.to_string();
        }
        let numbered = (2_u32..).map(|number| format!("{name} #{number}"));
        numbered
            .into_iter()
            .find(|name| !used(name))
            .unwrap_or_default()
    }

    fn progress(
        &mut self,
        session: SessionId,
        path: PathKind,
        rtt: Option<Duration>,
        (done, total): (u64, u64),
    ) {
        let Some(receiver) = self.receivers.get_mut(&session) else {
            return;
        };
        let now = Instant::now();
        if !std::mem::replace(&mut receiver.fetching, true) {
            receiver.since = now;
        }
        let at = &mut receiver.at;
        if at.path != path {
            at.before = Some(at.path);
        }
        at.path = path;
        at.rtt = rtt.or(at.rtt);
        at.rate = receiver.meter.sample(now, done);
        (at.done, at.total) = (done, total);
        let (at, name) = (*at, &receiver.name);
        let drawn = |width| sending::progress(name, &at, width);
        receiver
            .line
            .show(self.screen, drawn, || sending::progress_plain(name, &at));
    }

    fn left(&mut self, session: SessionId, outcome: &ReceiverOutcome, sent: u64) {
        let Some(receiver) = self.receivers.remove(&session) else {
            return;
        };
        let tone = match outcome {
            ReceiverOutcome::Completed => Tone::Good,
            ReceiverOutcome::Violation => Tone::Bad,
            _ => Tone::Plain,
        };
        if *outcome == ReceiverOutcome::Completed {
            self.completed += 1;
        }
        let Receiver {
            name,
            at,
            since,
            line,
            ..
        } = receiver;
        drop(line);
        let line = sending::left(&name, outcome, sent, since.elapsed(), at.path);
        self.screen.say(tone, &line);
        if *outcome == ReceiverOutcome::Completed {
            self.not_agreed();
        }
    }

    fn over(&self, reason: &ShareEnd) -> Result<Exit, Failure> {
        if let Some(failure) = Failure::of_share(reason) {
            return Err(failure);
        }
        self.screen.say(Tone::Plain, &sending::ended(reason));
        Ok(self.done())
    }

    fn done(&self) -> Exit {
        if self.failed_files {
            Exit::Incomplete
        } else {
            Exit::Done
        }
    }

    /// Ctrl-C is the usual way to end a share. The exit code says interrupted only while a receiver is connected or
    /// before any has completed.
    async fn interrupted(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let served = self.completed > 0 && self.receivers.is_empty();
        let exit = if served {
            self.done()
        } else {
            Exit::Interrupted
        };
        self.screen.say(Tone::Plain, sending::stopping());
        self.manager.stop_sharing(self.share).await?;
        let ended = async {
            while let Some(event) = events.recv().await {
                if let Some(reason) = self.event(event) {
                    self.screen.say(Tone::Plain, &sending::ended(&reason));
                    break;
                }
            }
        };
        tokio::select! {
            _ = timeout(GOODBYE, ended) => {}
            () = interrupts.next() => {}
        }
        Ok(exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_named_after_what_it_holds() {
        let named = |paths: &[&str]| name_of(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(named(&["some/mods/"]), "mods");
        assert_eq!(named(&["a.pdf", "b.pdf", "c.pdf"]), "a.pdf and 2 more");
        assert_eq!(named(&["-"]), "stdin");
        assert_eq!(named(&["/"]), "/");
        let here = std::env::current_dir().unwrap();
        assert_eq!(named(&["."]), here.file_name().unwrap().to_str().unwrap());
    }
}
