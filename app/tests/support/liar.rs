//! A source that sends wrong content: the real engine, over a real network and disk, driven by a loop that changes one
//! byte of all content before it is sealed.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use handover::disk::{Disk, DownloadTarget};
use handover_core::PeerId;
use handover_core::code::ShareCode;
use handover_core::engine::{
    AcceptTerms, Command, DownloadId, Engine, Event, FetchKey, FetchOptions, FetchSource, Input,
    LinkId, OnConflict, Output, SinkKind,
};
use handover_core::frame::{self, LinkKeys};
use handover_core::limits::{Limits, MAX_SEALED_FRAME};
use handover_core::message::Message;
use handover_core::time::Time;
use handover_transports::libp2p::Libp2pTransport;
use handover_transports::{Stream, Transport, TransportEvent, identity, next_event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Scene, peer};

const DOWNLOAD: DownloadId = DownloadId(1);

/// A lying source on a thread of its own. Dropping this ends it.
pub struct Liar {
    pub peer: PeerId,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    /// Fetches the ticket's share honestly. Returns when it is complete and being served, and lies from then on.
    pub fn start(scene: &Scene, ticket: &str, name: &str) -> Self {
        let ShareCode::Ticket(ticket) = ShareCode::parse(ticket).unwrap() else {
            panic!("no ticket: {ticket}");
        };
        let source = FetchSource {
            peer: Some(ticket.peer),
            addresses: ticket.addresses,
            key: FetchKey::Secret(ticket.secret),
        };
        let (data, folder) = (scene.path(&format!("{name}-data")), scene.path(name));
        let (serves, has_all) = blocking::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let config = peer::config(data);
                let keypair = identity::load_or_create(&config.data_dir).unwrap();
                let transport = Libp2pTransport::new(&config.network(keypair.clone())).unwrap();
                let disk = Disk::default();
                disk.register_download(DOWNLOAD, DownloadTarget::Folder(folder));
                let (notes, told) = mpsc::channel(32);
                let mut liar = Driver {
                    engine: Engine::new(Limits::default(), keypair, [7; 32], Time::ZERO),
                    started: Instant::now(),
                    peer: transport.local_peer(),
                    transport,
                    disk,
                    wires: HashMap::new(),
                    notes,
                    inputs: VecDeque::new(),
                    serves: Some(serves),
                };
                let fetch = Command::Fetch {
                    download: DOWNLOAD,
                    source,
                    sink: SinkKind::Folder,
                    options: Box::new(FetchOptions {
                        seed_for: Some(Duration::from_mins(10)),
                        ..config.fetch_options()
                    }),
                };
                liar.inputs.push_back(Input::Command(fetch));
                tokio::select! {
                    () = liar.run(told) => {}
                    _ = stopped => {}
                }
            });
        });
        let peer = has_all.recv_timeout(Duration::from_mins(1)).unwrap();
        Self {
            peer,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A message from a link's reader.
enum Note {
    Body(LinkId, Vec<u8>),
    Gone(LinkId),
}

/// The state of one link.
struct Wire {
    out: mpsc::UnboundedSender<Bytes>,
    keys: Option<LinkKeys>,
    /// Number of sealed frames received.
    opened: u64,
}

struct Driver {
    engine: Engine,
    started: Instant,
    peer: PeerId,
    transport: Libp2pTransport,
    disk: Disk,
    wires: HashMap<LinkId, Wire>,
    notes: mpsc::Sender<Note>,
    /// Inputs for the engine, in order.
    inputs: VecDeque<Input>,
    /// Notified once the download is complete; `None` from then on, while it lies.
    serves: Option<blocking::Sender<PeerId>>,
}

impl Driver {
    async fn run(&mut self, mut told: mpsc::Receiver<Note>) {
        loop {
            let wake = self.work();
            tokio::select! {
                Some(note) = told.recv() => self.note(note),
                Some(event) = next_event(&mut self.transport) => self.network(event),
                () = tokio::time::sleep_until(wake) => self.inputs.push_back(Input::Tick),
            }
        }
    }

    /// Passes all queued inputs to the engine and performs its outputs. Returns when to wake it.
    fn work(&mut self) -> Instant {
        loop {
            match self.engine.poll_output() {
                Output::Timeout(at) => {
                    let Some(input) = self.inputs.pop_front() else {
                        let longest = Duration::from_mins(1);
                        return self.started
                            + at.since(Time::ZERO).min(self.started.elapsed() + longest);
                    };
                    let now = Time::ZERO + self.started.elapsed();
                    self.engine.handle_input(now, input);
                }
                output => self.perform(output),
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Dial {
                dial,
                peer,
                addresses,
            } => self.transport.dial(dial, peer, addresses),
            Output::Disk { job, work } => {
                let done = self.disk.perform(work);
                self.inputs.push_back(Input::Disk { job, done });
            }
            Output::Close { link } => drop(self.wires.remove(&link)),
            Output::SendPlain { link, bytes } => {
                if let Some(wire) = self.wires.get(&link) {
                    let _ = wire.out.send(frame::plain(&bytes));
                }
            }
            Output::Keys { link, keys, .. } => {
                if let Some(wire) = self.wires.get_mut(&link) {
                    wire.keys = Some(keys);
                }
            }
            Output::Send {
                link,
                seq,
                message,
                payload,
            } => self.send(link, seq, &message, &payload),
            Output::Event(Event::Offer { download, .. }) => {
                let terms = AcceptTerms {
                    select: None,
                    on_conflict: OnConflict::Rename,
                    executables: false,
                };
                let accept = Command::Accept { download, terms };
                self.inputs.push_back(Input::Command(accept));
            }
            Output::Event(Event::Seeding { .. }) => {
                if let Some(serves) = self.serves.take() {
                    serves.send(self.peer).unwrap();
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, link: LinkId, seq: u64, message: &Message, payload: &[u8]) {
        let Some(wire) = self.wires.get(&link) else {
            return;
        };
        let mut payload = payload.to_vec();
        let is_content = matches!(message, Message::Data { .. });
        if let (true, None, Some(byte)) = (is_content, &self.serves, payload.last_mut()) {
            *byte ^= 1;
        }
        let keys = wire.keys.as_ref().unwrap();
        let sealed = frame::seal(&keys.send, seq, message, &payload).unwrap();
        let _ = wire.out.send(sealed);
        self.inputs.push_back(Input::Sent { link, seq });
    }

    fn note(&mut self, note: Note) {
        let input = match note {
            Note::Body(link, body) => {
                let Some(wire) = self.wires.get_mut(&link) else {
                    return;
                };
                match &wire.keys {
                    None => Input::Plain {
                        link,
                        bytes: body.into(),
                    },
                    Some(keys) => {
                        let frame = frame::open(&keys.receive, wire.opened, body).unwrap();
                        wire.opened += 1;
                        Input::Frame { link, frame }
                    }
                }
            }
            Note::Gone(link) => {
                self.wires.remove(&link);
                let reason = "gone".to_owned();
                Input::LinkDown { link, reason }
            }
        };
        self.inputs.push_back(input);
    }

    fn network(&mut self, event: TransportEvent) {
        let input = match event {
            TransportEvent::Listening(addresses) => Input::Listening { addresses },
            TransportEvent::LinkUp(up) => {
                let (out, outgoing) = mpsc::unbounded_channel();
                tokio::spawn(carry(up.id, up.stream, outgoing, self.notes.clone()));
                let wire = Wire {
                    out,
                    keys: None,
                    opened: 0,
                };
                self.wires.insert(up.id, wire);
                Input::LinkUp {
                    link: up.id,
                    peer: up.peer,
                    path: up.path,
                    remote: up.remote,
                    dial: up.dial,
                    relay: up.relay,
                    allowance: up.allowance,
                }
            }
            TransportEvent::DialFailed { dial, reason } => Input::DialFailed { dial, reason },
            TransportEvent::Path { peer, path } => Input::Path { peer, path },
            _ => return,
        };
        self.inputs.push_back(input);
    }
}

/// Writes a link's outgoing bytes and splits incoming ones into frames, until either side ends.
async fn carry(
    link: LinkId,
    stream: Box<dyn Stream>,
    mut out: mpsc::UnboundedReceiver<Bytes>,
    notes: mpsc::Sender<Note>,
) {
    let (mut reading, mut writing) = stream.split();
    let write = async {
        while let Some(bytes) = out.recv().await {
            writing.write_all(&bytes).await?;
            writing.flush().await?;
        }
        writing.close().await
    };
    let read = async {
        loop {
            let mut prefix = [0; 4];
            reading.read_exact(&mut prefix).await?;
            let len = frame::read_len(prefix, MAX_SEALED_FRAME).map_err(std::io::Error::other)?;
            let mut body = vec![0; len];
            reading.read_exact(&mut body).await?;
            let _ = notes.send(Note::Body(link, body)).await;
        }
    };
    let _: std::io::Result<()> = tokio::select! {
        done = write => done,
        done = read => done,
    };
    let _ = notes.send(Note::Gone(link)).await;
}
