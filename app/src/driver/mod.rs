//! The driver: runs an [`Engine`] on tokio, over a transport and a disk.
//!
//! One task owns the engine. Everything that happens comes to it through one bounded queue, and it waits for nobody but
//! the one who reads events; so whoever waits for the queue waits for the engine alone. What the engine wants done goes
//! to a task of its own for each link (the `link` module) and to blocking threads for the disk. How much of that is
//! under way at once is bounded by the engine, which asks for no more than its limits allow.

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

/// Notes on their way to the engine's task. Each may hold a frame's payload, so this is also a bound on memory.
const NOTES: usize = 32;
/// Requests from users on their way to the engine's task.
const REQUESTS: usize = 64;
/// Events on their way to who reads them. When they are full the engine waits.
const EVENTS: usize = 1024;
/// How often it is seen whether the date has changed.
const LOOK_AT_DATE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
/// How long a shutdown may take to say goodbye to peers.
const GOODBYE: Duration = Duration::from_secs(2);

/// What comes to the engine's task from the tasks that work for it.
enum Note {
    /// For the engine.
    Input(Input),
    /// A link's bytes are flushed and its stream is closed: the transport may give it up.
    Closed(LinkId),
    /// It took a while to tell, but that place is this point; and what is to be done there.
    Point(Place, MeetingPoint, Then),
}

/// What is done at a meeting point.
#[derive(Clone, Copy)]
enum Then {
    Announce,
    LookUp(LookUpId),
}

/// What a share is called and opened with.
pub(crate) type Opened = (ShareId, Ticket, Option<ShortCode>);

/// What users ask of a driver.
pub(crate) enum Request {
    /// Offer `input`; the ticket is answered as soon as there is one, before anything is read.
    Share {
        command: Box<dyn FnOnce(ShareId) -> Command + Send>,
        input: ShareInput,
        reply: oneshot::Sender<Opened>,
    },
    /// Fetch into `target`.
    Fetch {
        command: Box<dyn FnOnce(DownloadId) -> Command + Send>,
        target: DownloadTarget,
        /// The short code, if that is what opens it.
        code: Option<ShortCode>,
        reply: oneshot::Sender<DownloadId>,
    },
    /// Be reachable through this relay.
    UseRelay(Multiaddr),
    /// Know how these peers have done before.
    Standings(Vec<(PeerId, i32)>),
    /// Anything else.
    Command(Command),
}

/// What a device remembers from run to run that bears on transfers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Which files are what.
    pub(crate) known: Option<KnownFiles>,
    /// How often which short code was tried.
    pub(crate) codes: Option<ShortCodes>,
}

impl Memory {
    fn disk(self, limits: Limits, buffers: Arc<Buffers>) -> Disk {
        Disk::new(limits, buffers)
            .noting(self.known)
            .counting(self.codes)
    }
}

/// The way to a driver that runs.
pub(crate) struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: Option<mpsc::Receiver<Event>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

/// Starts a driver.
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
    /// Who waits for the ticket of a new share.
    waiting: HashMap<ShareId, oneshot::Sender<Opened>>,
    /// Where this peer is to be announced; the point, once it is known.
    points: HashMap<Place, Option<MeetingPoint>>,
    /// Held by who finds a place's point: one at a time, as each takes 32 MiB.
    hashing: Arc<Mutex<()>>,
    /// The day that the engine was told last.
    day: u32,
    next_id: u64,
    /// What performing an output led to, for the engine.
    missed: VecDeque<Input>,
    /// The engine is done; links have until then to say goodbye.
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
                    // Its owner is gone: end as if told to.
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

    /// Performs everything that the engine wants, and says when it wants to be woken.
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

    /// Gives a link's task something to do. A link that does not keep up with what the engine's limits allow is as good
    /// as dead.
    fn tell(&mut self, link: LinkId, order: link::Order) {
        let Some(task) = self.links.get(&link) else {
            return;
        };
        if !task.tell(order) {
            self.links.remove(&link);
            self.transport.close(link);
            let reason = "the connection does not take what is sent".to_string();
            // The engine is told once it has said all it wants now.
            self.missed.push_back(Input::LinkDown { link, reason });
        }
    }

    /// Goes to a place in the DHT, once it is known which point that is.
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

    /// Tells the engine the date, where that is another than it knows.
    fn tell_date(&mut self) {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let day = u32::try_from(since.as_secs() / DAY.as_secs()).unwrap_or_default();
        if day != self.day {
            self.day = day;
            self.input(Input::Date { day });
        }
    }

    /// Disk work blocks, so it has threads of its own.
    fn disk_work(&mut self, job: JobId, work: DiskWork) {
        let disk = Arc::clone(&self.disk);
        let notes = self.notes_out.clone();
        tokio::task::spawn_blocking(move || {
            let done = disk.perform(work);
            // Nobody listens any more only when the driver is gone.
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
        // A user who does not listen wants no events; the work goes on.
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
            // The link's stream tells the same after everything that still came through it; that is the moment which
            // counts. This one only knows better why.
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
