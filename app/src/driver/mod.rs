//! The driver: runs an [`Engine`] on tokio, over a transport and a disk.
//!
//! One task owns the engine. The tasks that work for it send their results through one bounded channel, and the
//! engine's task waits only for the consumer of events; so a sender that waits for the channel waits for the engine
//! alone. Output for a link goes to that link's own task (the `link` module), disk jobs to blocking threads. The engine
//! bounds how many of these are in progress at once, as its limits allow.

mod link;
mod opening;

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_core::code::{ShortCode, Ticket};
use handover_core::engine::{
    Command, DiskWork, DownloadId, Engine, Event, Input, JobId, LinkId, LookUpId, Output, Place,
    ShareId,
};
use handover_core::limits::Limits;
use handover_core::secret::MeetingPoint;
use handover_core::time::Time;
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::{Transport, TransportEvent, next_event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use self::link::LinkTask;
use crate::buffers::Buffers;
use crate::disk::{Disk, DownloadTarget, ShareInput};
use crate::store::{KnownFiles, ShortCodes};

/// Capacity of the channel of notes to the engine's task. Each note may hold a frame's payload, so this also bounds
/// memory.
const NOTES: usize = 32;
/// Capacity of the channel of user requests to the engine's task.
const REQUESTS: usize = 64;
/// Capacity of the channel of events to the user. While it is full, the engine waits.
const EVENTS: usize = 1024;
/// Interval between checks for a change of date.
const LOOK_AT_DATE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
/// Timeout for telling peers goodbye at shutdown.
const GOODBYE: Duration = Duration::from_secs(2);

/// A message to the engine's task from one of its worker tasks.
enum Note {
    /// Input for the engine.
    Input(Input),
    /// A link's bytes are flushed and its stream is closed: the transport may close the connection.
    Closed(LinkId),
    /// The rendezvous point of a `Place`, computed on a blocking thread, and what to do there.
    Point(Place, MeetingPoint, Then),
}

/// What to do at a rendezvous point.
#[derive(Clone, Copy)]
enum Then {
    Announce,
    LookUp(LookUpId),
}

/// A new share's id, its ticket and its short code, if it has one.
pub(crate) type Opened = (ShareId, Ticket, Option<ShortCode>);

/// A user's request to the driver.
pub(crate) enum Request {
    /// Share `input`. The reply is sent as soon as there is a ticket, before anything is read.
    Share {
        command: Box<dyn FnOnce(ShareId) -> Command + Send>,
        input: ShareInput,
        reply: oneshot::Sender<Opened>,
    },
    /// Fetch into `target`.
    Fetch {
        command: Box<dyn FnOnce(DownloadId) -> Command + Send>,
        target: DownloadTarget,
        /// The short code, if the download was started with one.
        code: Option<ShortCode>,
        reply: oneshot::Sender<DownloadId>,
    },
    /// Get a reservation at this relay.
    UseRelay(Multiaddr),
    /// Set the reputation of these peers from earlier runs.
    Standings(Vec<(PeerId, i32)>),
    /// Any other command.
    Command(Command),
}

/// Persistent state of the device that affects transfers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Known files by root.
    pub(crate) known: Option<KnownFiles>,
    /// Attempts per short code.
    pub(crate) codes: Option<ShortCodes>,
}

impl Memory {
    fn disk(self, limits: Limits, buffers: Arc<Buffers>) -> Disk {
        Disk::new(limits, buffers)
            .noting(self.known)
            .counting(self.codes)
    }
}

/// The channels and task of a running driver.
pub(crate) struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: Option<mpsc::Receiver<Event>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

/// Starts a driver on the current tokio runtime.
pub(crate) fn start(
    identity: Keypair,
    seed: [u8; 32],
    limits: Limits,
    memory: Memory,
    transport: Box<dyn Transport>,
) -> Handle {
    let (requests, requests_in) = mpsc::channel(REQUESTS);
    let (events_out, events) = mpsc::channel(EVENTS);
    let (notes_out, notes) = mpsc::channel(NOTES);
    let buffers = Arc::new(Buffers::default());
    let driver = Driver {
        engine: Engine::new(limits.clone(), identity, seed, Time::ZERO),
        started: Instant::now(),
        transport,
        disk: Arc::new(memory.disk(limits, Arc::clone(&buffers))),
        buffers,
        links: HashMap::new(),
        notes_out,
        events: events_out,
        waiting: HashMap::new(),
        points: HashMap::new(),
        hashing: Arc::default(),
        day: 0,
        next_id: 0,
        missed: VecDeque::new(),
        shut_down: None,
    };
    let task = tokio::spawn(driver.run(requests_in, notes));
    Handle {
        requests,
        events: Some(events),
        task,
    }
}

struct Driver {
    engine: Engine,
    started: Instant,
    transport: Box<dyn Transport>,
    disk: Arc<Disk>,
    buffers: Arc<Buffers>,
    links: HashMap<LinkId, LinkTask>,
    notes_out: mpsc::Sender<Note>,
    events: mpsc::Sender<Event>,
    /// Channels waiting for the ticket of a new share.
    waiting: HashMap<ShareId, oneshot::Sender<Opened>>,
    /// Where this peer is announced: each `Place` with its rendezvous point, once that is computed.
    points: HashMap<Place, Option<MeetingPoint>>,
    /// Held while computing a rendezvous point, so that only one computation runs at a time: each uses 32 MiB.
    hashing: Arc<Mutex<()>>,
    /// The day last reported to the engine, in days since 1970.
    day: u32,
    next_id: u64,
    /// Inputs that performing outputs has caused and that the engine has not received yet.
    missed: VecDeque<Input>,
    /// Deadline for links to say goodbye, once the engine has shut down.
    shut_down: Option<Instant>,
}

impl Driver {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut notes: mpsc::Receiver<Note>) {
        let mut owned = true;
        self.tell_date();
        let mut dates = tokio::time::interval(LOOK_AT_DATE);
        dates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.perform_all().await;
            if self
                .shut_down
                .is_some_and(|until| self.links.is_empty() || Instant::now() >= until)
            {
                break;
            }
            tokio::select! {
                biased;
                request = requests.recv(), if owned => if let Some(request) = request {
                    self.request(request);
                } else {
                    // The handle was dropped: end as if asked to shut down.
                    owned = false;
                    self.input(Input::Command(Command::Shutdown));
                },
                Some(note) = notes.recv() => self.note(note),
                event = next_event(self.transport.as_mut()) => match event {
                    Some(event) => self.transport_event(event),
                    None => break,
                },
                () = sleep_until(wake) => self.input(Input::Tick),
                _ = dates.tick() => self.tell_date(),
            }
        }
        tracing::debug!(links = self.links.len(), "stopping");
        self.transport.shutdown();
        while let Some(event) = next_event(self.transport.as_mut()).await {
            drop(event);
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.engine.handle_input(now, input);
    }

    /// Performs all pending outputs of the engine. Returns the time at which it wants to be woken.
    async fn perform_all(&mut self) -> Option<Instant> {
        loop {
            match self.engine.poll_output() {
                Output::Timeout(at) => match self.missed.pop_front() {
                    Some(input) => self.input(input),
                    None => return self.wake_at(at),
                },
                Output::Event(event) => self.event(event).await,
                output => self.perform(output),
            }
        }
    }

    fn wake_at(&self, at: Time) -> Option<Instant> {
        let engine = (at != Time::NEVER).then(|| self.started + at.since(Time::ZERO));
        [engine, self.shut_down].into_iter().flatten().min()
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Dial {
                dial,
                peer,
                addresses,
            } => self.transport.dial(dial, peer, addresses),
            Output::Announce { place } => {
                self.points.entry(place).or_default();
                self.at_point(place, Then::Announce);
            }
            Output::Withdraw { place } => {
                if let Some(Some(point)) = self.points.remove(&place) {
                    self.transport.withdraw(point);
                }
            }
            Output::LookUp { lookup, place } => self.at_point(place, Then::LookUp(lookup)),
            Output::EndLookUp { lookup } => self.transport.end_look_up(lookup),
            Output::Reach { peer, addresses } => self.transport.reach(peer, addresses),
            Output::Disk { job, work } => self.disk_work(job, work),
            Output::Close { link } => self.tell(link, link::Order::Close),
            Output::SendPlain { link, bytes } => self.tell(link, link::Order::SendPlain(bytes)),
            Output::AwaitPlain { link } => self.tell(link, link::Order::AwaitPlain),
            Output::Keys {
                link,
                keys,
                largest,
            } => {
                self.tell(link, link::Order::Keys(keys, largest));
            }
            Output::Send {
                link,
                seq,
                message,
                payload,
            } => self.tell(
                link,
                link::Order::Send {
                    seq,
                    message,
                    payload,
                },
            ),
            Output::Timeout(_) | Output::Event(_) => {}
        }
    }

    /// Sends an order to a link's task. A link that cannot keep up, although the engine's limits bound its queue, is
    /// treated as down.
    fn tell(&mut self, link: LinkId, order: link::Order) {
        let Some(task) = self.links.get(&link) else {
            return;
        };
        if !task.tell(order) {
            self.links.remove(&link);
            self.transport.close(link);
            let reason = "the connection does not take what is sent".to_string();
            // Reported to the engine only after it has returned all its current outputs.
            self.missed.push_back(Input::LinkDown { link, reason });
        }
    }

    /// Announces at or looks up a `Place` in the DHT, after computing its rendezvous point if that is not known yet.
    fn at_point(&mut self, place: Place, then: Then) {
        let known = self.points.get(&place).copied().flatten();
        if let (Place::Share(point), _) | (_, Some(point)) = (place, known) {
            return self.arrived(place, point, then);
        }
        let notes = self.notes_out.clone();
        let turn = Arc::clone(&self.hashing);
        tokio::task::spawn_blocking(move || {
            let point = {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                place.point()
            };
            let _ = notes.blocking_send(Note::Point(place, point, then));
        });
    }

    fn arrived(&mut self, place: Place, point: MeetingPoint, then: Then) {
        match then {
            Then::Announce => {
                // It may have been withdrawn meanwhile.
                if let Some(known) = self.points.get_mut(&place) {
                    *known = Some(point);
                    self.transport.announce(point);
                }
            }
            Then::LookUp(lookup) => self.transport.look_up(lookup, point),
        }
    }

    /// Tells the engine the date if it has changed.
    fn tell_date(&mut self) {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let day = u32::try_from(since.as_secs() / DAY.as_secs()).unwrap_or_default();
        if day != self.day {
            self.day = day;
            self.input(Input::Date { day });
        }
    }

    /// Runs a disk job on a blocking thread.
    fn disk_work(&mut self, job: JobId, work: DiskWork) {
        let disk = Arc::clone(&self.disk);
        let notes = self.notes_out.clone();
        tokio::task::spawn_blocking(move || {
            let done = disk.perform(work);
            // Sending fails only when the driver is gone.
            let _ = notes.blocking_send(Note::Input(Input::Disk { job, done }));
        });
    }

    async fn event(&mut self, event: Event) {
        match &event {
            Event::ShareOpen {
                share,
                ticket,
                short,
            } => {
                if let Some(reply) = self.waiting.remove(share) {
                    let _ = reply.send((*share, ticket.clone(), short.clone()));
                }
            }
            Event::ShareEnded { share, .. } => {
                self.waiting.remove(share);
            }
            Event::ShutDown => {
                self.shut_down.get_or_insert(Instant::now() + GOODBYE);
            }
            _ => {}
        }
        // If the user has dropped the event channel, the work goes on without events.
        let _ = self.events.send(event).await;
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Share {
                command,
                input,
                reply,
            } => {
                let share = ShareId(self.fresh_id());
                self.disk.register_share(share, input);
                self.waiting.insert(share, reply);
                self.input(Input::Command(command(share)));
            }
            Request::Fetch {
                command,
                target,
                code,
                reply,
            } => {
                let download = DownloadId(self.fresh_id());
                self.disk.register_download(download, target);
                if let Some(code) = code {
                    self.disk.register_code(download, code);
                }
                let _ = reply.send(download);
                self.input(Input::Command(command(download)));
            }
            Request::UseRelay(address) => self.transport.use_relay(address),
            Request::Standings(known) => {
                for (peer, standing) in known {
                    self.input(Input::Standing { peer, standing });
                }
            }
            Request::Command(command) => self.input(Input::Command(command)),
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Input(input) => {
                if let Input::LinkDown { link, .. } = &input {
                    self.links.remove(link);
                    self.transport.close(*link);
                }
                self.input(input);
            }
            Note::Point(place, point, then) => self.arrived(place, point, then),
            Note::Closed(link) => {
                self.links.remove(&link);
                self.transport.close(link);
            }
        }
    }

    fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Listening(addresses) => self.input(Input::Listening { addresses }),
            TransportEvent::LinkUp(up) => {
                let input = Input::LinkUp {
                    link: up.id,
                    peer: up.peer,
                    path: up.path,
                    remote: up.remote,
                    dial: up.dial,
                    relay: up.relay,
                    allowance: up.allowance,
                };
                let task = LinkTask::spawn(
                    up.id,
                    up.stream,
                    self.notes_out.clone(),
                    Arc::clone(&self.buffers),
                );
                self.links.insert(up.id, task);
                self.input(input);
            }
            // The link's stream reports the same, after everything that still arrived on it, and that report is the one
            // that counts. This event only has the better reason.
            TransportEvent::LinkDown { link, reason } => {
                if let Some(task) = self.links.get(&link) {
                    task.explain(reason);
                }
            }
            TransportEvent::Nearby { peer, addresses } => {
                self.input(Input::Nearby { peer, addresses });
            }
            TransportEvent::NearbyGone { peer } => self.input(Input::NearbyGone { peer }),
            TransportEvent::Announced { point, report } => {
                let found = self.points.iter().find(|(_, known)| **known == Some(point));
                if let Some((&place, _)) = found {
                    self.input(Input::Announced { place, report });
                }
            }
            TransportEvent::Found {
                lookup,
                peer,
                addresses,
                by,
            } => self.input(Input::Found {
                lookup,
                peer,
                addresses,
                by,
            }),
            TransportEvent::LookedUp { lookup, reached } => {
                self.input(Input::LookedUp { lookup, reached });
            }
            TransportEvent::Path { peer, path } => self.input(Input::Path { peer, path }),
            TransportEvent::DialFailed { dial, reason } => {
                self.input(Input::DialFailed { dial, reason });
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}
