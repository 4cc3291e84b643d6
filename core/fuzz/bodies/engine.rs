//! Fuzzes the engine: the input bytes decide what peers, disk, clock and user do, in any order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use handover_core::chunk::{self, Chunk};
use handover_core::engine::{
    AcceptTerms, Adopted, Allowance, AnnounceReport, Candidate, Command, DialId, DiskDone,
    DiskError, DiskWork, DownloadId, Engine, Event, FetchKey, FetchOptions, FetchSource, GroupHash,
    Groups, Input, JobId, Kept, Limited, LinkId, Located, LookUpId, OnConflict, Output, PathKind,
    Place, Published, Scanned, Segment, ShareId, ShareLabel, ShareOptions, Short, SinkKind,
    TransferId,
};
use handover_core::frame::{self, LinkKeys};
use handover_core::handshake::{self, Initiator};
use handover_core::limits::{GROUP, LEAF, Limits};
use handover_core::manifest::{Entry, EntryKind, ManifestParts, SignedManifest};
use handover_core::merkle::{self, Hash, RangeHash};
use handover_core::message::{self, HandshakeReply, HandshakeRequest, Message, Served};
use handover_core::path::SafePath;
use handover_core::secret::ShareSecret;
use handover_core::time::{Time, Timestamp};
use handover_core::{Keypair, PeerId};

/// Maximum number of outputs after one input. More count as an endless loop.
const MOST_OUTPUTS: usize = 20_000;

/// Runs an engine with one share and one download on the actions in `data`. It must not panic, loop, or request a
/// wake-up in the past, and the share and the download must each end at most once.
pub(crate) fn engine(data: &[u8]) {
    let mut play = Play::new();
    let mut bytes = data;
    for _ in 0..400 {
        let Some((op, rest)) = bytes.split_first() else {
            break;
        };
        bytes = rest;
        play.step(*op, &mut bytes);
    }
    play.input(Input::Command(Command::Shutdown));
}

struct Play {
    engine: Engine,
    now: Time,
    links: BTreeMap<LinkId, Puppet>,
    next_link: u64,
    jobs: VecDeque<(JobId, DiskWork)>,
    dials: VecDeque<DialId>,
    lookups: VecDeque<LookUpId>,
    ended: BTreeMap<&'static str, u32>,
    peer: PeerId,
}

/// A scripted peer: the other end of a link.
struct Puppet {
    knock: Option<Bytes>,
    initiator: Option<Initiator>,
    keys: Option<LinkKeys>,
    received: u64,
}

impl Play {
    fn new() -> Self {
        let keys = super::keys(1);
        let limits = Limits {
            links: 8,
            links_in_handshake: 4,
            links_in_handshake_of_one: 4,
            window: 1 << 20,
            window_start: 1 << 18,
            send_buffer: 1 << 19,
            disk_jobs: 4,
            ..Limits::default()
        };
        let mut play = Self {
            engine: Engine::new(limits, keys, [9; 32], Time::ZERO),
            now: Time::ZERO,
            links: BTreeMap::new(),
            next_link: 0,
            jobs: VecDeque::new(),
            dials: VecDeque::new(),
            lookups: VecDeque::new(),
            ended: BTreeMap::new(),
            peer: super::keys(2).public().to_peer_id(),
        };
        play.input(Input::Date { day: 20_000 });
        play.input(Input::Listening {
            addresses: vec!["/ip4/10.0.0.1/tcp/1".parse().expect("an address")],
        });
        play.input(Input::Command(Command::Share {
            share: ShareId(1),
            label: ShareLabel::default(),
            secret: Some(secret()),
            options: ShareOptions {
                dht: true,
                short: Short::New,
                remember: true,
                ..ShareOptions::default()
            },
        }));
        play.input(Input::Command(Command::Fetch {
            download: DownloadId(1),
            source: FetchSource {
                peer: Some(play.peer),
                addresses: vec!["/ip4/10.0.0.2/tcp/1".parse().expect("an address")],
                key: FetchKey::Secret(secret()),
            },
            sink: SinkKind::Folder,
            options: Box::new(FetchOptions {
                dht: true,
                remember: true,
                seed: true,
                ..FetchOptions::default()
            }),
        }));
        play
    }

    fn step(&mut self, op: u8, bytes: &mut &[u8]) {
        let arg = take(bytes);
        let link = LinkId(u64::from(arg & 7));
        match op % 16 {
            0 => self.link_up(None),
            1 => self.knock(link),
            2 => self.plain(link, bytes),
            3 => self.frame_of_bytes(link, bytes),
            4 => self.request(link, bytes),
            5 => self.data(link, arg, bytes),
            6 => self.small_message(link, arg),
            7 | 8 => self.disk(arg, bytes),
            9 => {
                self.now = self.now + Duration::from_millis(1 << (arg % 16));
                self.input(Input::Tick);
            }
            10 => {
                self.links.remove(&link);
                self.input(Input::LinkDown {
                    link,
                    reason: "gone".into(),
                });
            }
            11 => self.dialled(arg),
            12 => self.command(arg),
            13 => self.sent(link, arg),
            14 => self.manifest(link, arg),
            15 if arg & 8 != 0 => self.discover(arg),
            _ => self.input(Input::BadFrame {
                link,
                reason: "bad".into(),
            }),
        }
    }

    /// Passes an input to the engine and handles all outputs.
    fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        for count in 0.. {
            assert!(count < MOST_OUTPUTS, "outputs without an end");
            match self.engine.poll_output() {
                Output::Timeout(at) => {
                    assert!(
                        at > self.now || self.engine_is_late(at),
                        "a wake-up in the past"
                    );
                    return;
                }
                Output::Disk { job, work } => self.jobs.push_back((job, work)),
                Output::Dial { dial, .. } => self.dials.push_back(dial),
                Output::Keys { link, keys, .. } => {
                    if let Some(puppet) = self.links.get_mut(&link) {
                        puppet.keys = Some(keys);
                    }
                }
                Output::SendPlain { link, bytes } => {
                    if let Some(puppet) = self.links.get_mut(&link) {
                        puppet.knock = Some(bytes);
                    }
                }
                Output::Close { link } => {
                    self.links.remove(&link);
                }
                Output::Event(Event::ShareEnded { .. }) => self.end("share"),
                Output::Event(Event::DownloadEnded { .. }) => self.end("download"),
                Output::LookUp { lookup, .. } => self.lookups.push_back(lookup),
                Output::Send { .. }
                | Output::AwaitPlain { .. }
                | Output::Announce { .. }
                | Output::Withdraw { .. }
                | Output::EndLookUp { .. }
                | Output::Reach { .. }
                | Output::Event(_) => {}
            }
        }
    }

    /// True if a wake-up at `at` is legitimate: it is in the future, or the one after its tick is. Sends that tick.
    fn engine_is_late(&mut self, at: Time) -> bool {
        if at > self.now {
            return true;
        }
        self.engine.handle_input(self.now, Input::Tick);
        loop {
            match self.engine.poll_output() {
                Output::Timeout(at) => return at > self.now,
                Output::Disk { job, work } => self.jobs.push_back((job, work)),
                Output::Dial { dial, .. } => self.dials.push_back(dial),
                _ => {}
            }
        }
    }

    fn end(&mut self, what: &'static str) {
        let times = self.ended.entry(what).or_default();
        *times += 1;
        assert_eq!(*times, 1, "a {what} ended twice");
    }

    fn link_up(&mut self, dial: Option<DialId>) {
        let link = LinkId(self.next_link & 7);
        self.next_link += 1;
        if self.links.contains_key(&link) {
            return;
        }
        self.links.insert(
            link,
            Puppet {
                knock: None,
                initiator: None,
                keys: None,
                received: 0,
            },
        );
        self.input(Input::LinkUp {
            link,
            peer: self.peer,
            path: PathKind::Lan,
            remote: handover_core::Multiaddr::empty(),
            dial,
            relay: None,
            allowance: Allowance::default(),
        });
    }

    /// Sends a handshake request with the right key.
    fn knock(&mut self, link: LinkId) {
        let secret = secret();
        let (psk, tag) = (secret.psk(), secret.tag());
        let (initiator, noise) =
            Initiator::new(&psk, &tag, &self.peer, &self.engine.peer(), [3; 32]);
        if let Some(puppet) = self.links.get_mut(&link) {
            puppet.initiator = Some(initiator);
            let knock = message::encode(&HandshakeRequest {
                version: 1,
                name: handshake::name_in_request(&tag, &self.peer, &self.engine.peer(), &noise),
                noise,
            });
            self.input(Input::Plain {
                link,
                bytes: knock.into(),
            });
        }
    }

    fn plain(&mut self, link: LinkId, bytes: &mut &[u8]) {
        let bytes = take_many(bytes);
        if self.links.contains_key(&link) {
            self.input(Input::Plain { link, bytes });
        }
    }

    /// Answers a dial: with a link whose other end proves the key, or with a failure.
    fn dialled(&mut self, arg: u8) {
        let Some(dial) = self.dials.pop_front() else {
            return;
        };
        if arg & 1 == 0 {
            return self.input(Input::DialFailed {
                dial,
                reason: "refused".into(),
            });
        }
        let link = LinkId(self.next_link & 7);
        self.link_up(Some(dial));
        let knock = self
            .links
            .get_mut(&link)
            .and_then(|puppet| puppet.knock.take());
        let Some(Ok(knock)) = knock.map(|knock| message::decode::<HandshakeRequest>(&knock)) else {
            return;
        };
        let psk = secret().psk();
        let reply = handshake::respond(
            &psk,
            &secret().tag(),
            &self.peer,
            &self.engine.peer(),
            &knock.noise,
            [4; 32],
        );
        if let Ok((noise, _)) = reply {
            let bytes = message::encode(&HandshakeReply::Noise(noise)).into();
            self.input(Input::Plain { link, bytes });
        }
    }

    /// Sends a message as the scripted peer, in a frame whose seal opens.
    fn send(&mut self, link: LinkId, message: &Message, payload: &[u8]) {
        let Some(puppet) = self.links.get_mut(&link) else {
            return;
        };
        if puppet.keys.is_none() {
            return;
        }
        let seq = puppet.received;
        puppet.received += 1;
        let keys = LinkKeys::new([1; 32], [1; 32]);
        let Ok(frame) = frame::seal(&keys.send, seq, message, payload) else {
            return;
        };
        match frame::open(&keys.receive, seq, BytesMut::from(&frame[4..])) {
            Ok(frame) => self.input(Input::Frame { link, frame }),
            Err(error) => self.input(Input::BadFrame {
                link,
                reason: error.to_string(),
            }),
        }
    }

    fn frame_of_bytes(&mut self, link: LinkId, bytes: &mut &[u8]) {
        let header = take_many(bytes);
        let payload = take_many(bytes);
        if let Ok(message) = message::decode::<Message>(&header) {
            self.send(link, &message, &payload);
        }
    }

    fn request(&mut self, link: LinkId, bytes: &mut &[u8]) {
        let id = u64::from(take(bytes));
        let count = usize::from(take(bytes) % 5);
        let segments: Vec<Segment> = (0..count)
            .map(|_| Segment {
                entry: u32::from(take(bytes) % 8),
                offset: u64::from(take(bytes)) * u64::from(LEAF) / 4,
                len: u32::from(take(bytes)) * LEAF / 8,
            })
            .collect();
        let segments = segments.into();
        self.send(link, &Message::Request { id, segments }, &[]);
    }

    fn data(&mut self, link: LinkId, arg: u8, bytes: &mut &[u8]) {
        let id = u64::from(take(bytes));
        let mut payload = Vec::new();
        let mut served = Vec::new();
        for _ in 0..(arg % 6) {
            let len = [1, 5, LEAF, GROUP, 100_000, 0][usize::from(take(bytes) % 6)];
            let what = match take(bytes) % 5 {
                0 => Served::Failed(message::Failure::Gone),
                1 => Served::Forgotten,
                2 => Served::End {
                    len,
                    size: u64::from(len),
                },
                3 => Served::Bytes {
                    len,
                    proof: Some(vec![Hash([0; 32])].into()),
                },
                _ => Served::Bytes { len, proof: None },
            };
            if !matches!(what, Served::Failed(_) | Served::Forgotten) {
                payload.resize(payload.len() + len as usize, 7);
            }
            served.push(what);
        }
        if payload.len() <= GROUP as usize {
            let segments = served.into();
            let roots = None;
            self.send(
                link,
                &Message::Data {
                    id,
                    segments,
                    roots,
                },
                &payload,
            );
        }
    }

    fn small_message(&mut self, link: LinkId, arg: u8) {
        let number = u64::from(arg >> 3);
        let message = match arg % 16 {
            0 => Message::Hello {
                session: number,
                name: "x".repeat(arg.into()),
            },
            1 => Message::GetManifest { offset: number },
            2 => Message::Forget {
                ids: vec![number].into(),
            },
            3 => Message::GetRoot {
                entry: u32::from(arg >> 4),
            },
            4 => Message::Have {
                done: u64::MAX,
                total: number,
            },
            5 => Message::Leave {
                outcome: message::Leave::Completed,
            },
            6 => Message::Welcome {
                manifest: Some(message::Announced {
                    len: number,
                    id: signed().id(),
                }),
            },
            7 => Message::Welcome {
                manifest: Some(message::Announced {
                    len: signed().encoded().len() as u64,
                    id: signed().id(),
                }),
            },
            8 => Message::Failed {
                entry: u32::from(arg >> 4),
                reason: message::Failure::Changed,
            },
            // The conditions keep the meaning of all other bytes, and so of the existing corpus.
            9 if arg & 32 != 0 => Message::Pace {
                piece: u32::try_from(number).unwrap_or(u32::MAX),
                paused: arg & 16 != 0,
            },
            9 => Message::Withdrawn,
            10 if arg & 64 != 0 => Message::GetRoots {
                first: u32::from(arg >> 5),
                count: u32::from(arg >> 3 & 3),
            },
            10 if arg & 32 != 0 => Message::GetChunks {
                entry: u32::from(arg >> 4),
                first: u32::from(arg >> 3 & 1),
            },
            10 => Message::Ping { nonce: number },
            11 if arg & 64 != 0 => {
                let part = Message::Chunks {
                    entry: u32::from(arg >> 7) + 4,
                    first: 0,
                    total: u32::from(arg >> 5 & 1),
                };
                let payload = chunk::encode(&[chunk(), chunk()]);
                return self.send(link, &part, &payload[..usize::from(arg >> 4) * 10 % 40]);
            }
            11 if arg >= 128 => Message::Remember {
                half: message::SecretBytes([arg; 32]),
            },
            11 => Message::Seeder {
                manifest: message::Announced {
                    len: signed().encoded().len() as u64,
                    id: signed().id(),
                },
            },
            12 => Message::Parts {
                ranges: vec![(number, number), (number + 9, 1)].into(),
            },
            13 => Message::Peers {
                peers: vec![message::PeerAt {
                    peer: vec![0, 1, arg].into(),
                    addresses: vec![vec![4, 10, 0, 0, 9, 6, 1, arg].into()].into(),
                }]
                .into(),
            },
            14 => Message::Seeds {
                addresses: vec![vec![4, 10, 0, 0, 8, 6, 1, arg].into()].into(),
            },
            _ => Message::Pong { nonce: number },
        };
        self.send(link, &message, &[]);
    }

    /// Sends the right manifest, or the start of it.
    fn manifest(&mut self, link: LinkId, arg: u8) {
        let signed = signed();
        let encoded = signed.encoded();
        let total = encoded.len() as u64;
        let end = if arg & 8 == 0 {
            encoded.len()
        } else {
            usize::from(arg).min(encoded.len())
        };
        let offset = 0;
        self.send(link, &Message::Manifest { offset, total }, &encoded[..end]);
    }

    fn command(&mut self, arg: u8) {
        let download = DownloadId(1);
        self.input(Input::Command(match arg % 8 {
            0 | 1 => Command::Accept {
                download,
                terms: AcceptTerms {
                    select: (arg & 8 != 0).then(|| vec![1, 2, 3]),
                    on_conflict: OnConflict::Skip,
                    executables: false,
                },
            },
            2 if arg & 32 != 0 => Command::Limit {
                limited: Limited::Up,
                rate: (arg & 16 != 0).then_some(1 << (arg >> 6)),
            },
            3 if arg & 32 != 0 => Command::Limit {
                limited: Limited::One(TransferId::Download(download)),
                rate: (arg & 16 != 0).then_some(1000 << (arg >> 6)),
            },
            6 if arg & 32 != 0 => Command::PauseShare { share: ShareId(1) },
            6 if arg & 64 != 0 => Command::ResumeShare { share: ShareId(1) },
            2 => Command::Pause { download },
            3 => Command::Resume { download },
            4 => Command::Cancel { download },
            5 => Command::Decline { download },
            6 => Command::Unshare { share: ShareId(1) },
            _ => Command::Shutdown,
        }));
    }

    /// Reports a result of the DHT, a connection that came up by itself, or a new date.
    fn discover(&mut self, arg: u8) {
        let lookup = self.lookups.back().copied().unwrap_or(LookUpId(0));
        let peer = self.peer;
        self.input(match arg & 7 {
            0 => Input::Found {
                lookup,
                peer,
                addresses: vec!["/ip4/10.0.0.3/tcp/1".parse().expect("an address")],
                by: peer,
            },
            1 => Input::Found {
                lookup,
                peer: super::keys(3).public().to_peer_id(),
                addresses: Vec::new(),
                by: peer,
            },
            2 => Input::LookedUp {
                lookup,
                reached: arg & 16 != 0,
            },
            3 => Input::Path {
                peer,
                path: PathKind::Lan,
            },
            4 => Input::Date {
                day: 20_000 + u32::from(arg >> 4),
            },
            _ => Input::Announced {
                place: Place::Share(secret().meeting_point()),
                report: AnnounceReport {
                    addresses: usize::from(arg >> 7),
                    nodes: usize::from(arg >> 6),
                    found_at: usize::from(arg & 16),
                },
            },
        });
    }

    fn sent(&mut self, link: LinkId, arg: u8) {
        let seq = u64::from(arg >> 3);
        self.input(Input::Sent { link, seq });
    }

    /// Completes one of the pending disk jobs, with success or failure.
    fn disk(&mut self, arg: u8, bytes: &mut &[u8]) {
        if self.jobs.is_empty() {
            return;
        }
        let at = usize::from(arg >> 2) % self.jobs.len();
        let Some((job, work)) = self.jobs.remove(at) else {
            return;
        };
        let done = if arg & 3 == 3 {
            DiskDone::Failed(
                [DiskError::Full, DiskError::Changed, DiskError::NotFound]
                    [usize::from(take(bytes) % 3)]
                .clone(),
            )
        } else {
            well(&work, arg)
        };
        self.input(Input::Disk { job, done });
    }
}

/// Returns the journal of an earlier run, in any state.
fn kept(arg: u8) -> Kept {
    if arg < 200 {
        return Kept::default();
    }
    Kept {
        groups: vec![Groups {
            entry: u32::from(arg & 7),
            size: u64::from(arg) << 10,
            first: u64::from(arg & 3),
            nodes: vec![Hash([arg; 32]); usize::from(arg & 15)],
        }],
        whole: vec![(u32::from(arg & 3), Hash([arg; 32]))],
        published: vec![u32::from(arg >> 5), 900],
    }
}

fn well(work: &DiskWork, arg: u8) -> DiskDone {
    match work {
        DiskWork::Scan { .. } => DiskDone::Scanned(Scanned {
            entries: entries(),
            skipped: Vec::new(),
            at: Timestamp::default(),
        }),
        DiskWork::Read { segments, hash, .. } => {
            let len: usize = segments.iter().map(|segment| segment.len as usize).sum();
            let group = |segment: &Segment| GroupHash {
                hash: merkle::hash_group(&vec![7; segment.len as usize]),
                inner: Vec::new(),
            };
            DiskDone::Read {
                payload: vec![7; len].into(),
                segments: segments
                    .iter()
                    .map(|segment| Ok(hash.then(|| group(segment))))
                    .collect(),
            }
        }
        DiskWork::ReadBack { segments, .. } => {
            let len = |kept: &Located| kept.segment.len as usize;
            let group = |kept: &Located| GroupHash {
                hash: merkle::hash_group(&vec![7; len(kept)]),
                inner: Vec::new(),
            };
            DiskDone::Read {
                payload: vec![7; segments.iter().map(len).sum()].into(),
                segments: segments.iter().map(|kept| Ok(Some(group(kept)))).collect(),
            }
        }
        DiskWork::HashGroups { count, .. } | DiskWork::HashStaged { count, .. } => {
            DiskDone::Hashed {
                hashes: vec![RangeHash::of(&[7; 9]).node(); *count as usize],
            }
        }
        DiskWork::ReadPipe { len, .. } => DiskDone::PipeRead {
            payload: vec![7; *len as usize].into(),
            hash: Hash([1; 32]),
            end: arg & 4 == 0,
        },
        DiskWork::Inspect { paths, .. } => DiskDone::Inspected {
            taken: (0..paths.len())
                .filter(|at| usize::from(arg >> 3) == *at)
                .collect(),
            free: None,
            kept: kept(arg),
        },
        DiskWork::Chunk { .. } => DiskDone::Chunked(vec![chunk(); usize::from(arg >> 3)]),
        DiskWork::Candidates { files, .. } => DiskDone::Candidates(
            files
                .iter()
                .map(|file| Candidate {
                    entry: file.entry,
                    stands: (arg & 4 == 0).then_some(file.size + u64::from(arg >> 7)),
                    elsewhere: arg & 8 == 0,
                })
                .collect(),
        ),
        DiskWork::Adopt { files, .. } => {
            let outcomes = [
                Adopted::Stands,
                Adopted::Staged,
                Adopted::StagedFromElsewhere,
                Adopted::No,
            ];
            let outcome = outcomes[usize::from(arg >> 3) % 4];
            DiskDone::Adopted(vec![outcome; files.len()])
        }
        DiskWork::Reuse { .. } => {
            let range = RangeHash::of(&[7; 9]);
            let group = u64::from(GROUP);
            DiskDone::Reused(vec![(0, range.clone()), (u64::from(arg) * group, range)])
        }
        DiskWork::Publish { files, .. } => DiskDone::Published(
            files
                .iter()
                .map(|file| Ok(Published::At(file.path.clone())))
                .collect(),
        ),
        DiskWork::CountProof { .. } => DiskDone::ProofCounted {
            sent: u32::from(arg),
        },
        DiskWork::Finish { .. } => DiskDone::Finished { failed: Vec::new() },
        DiskWork::Stage { .. }
        | DiskWork::Write { .. }
        | DiskWork::NoteRoots { .. }
        | DiskWork::ProofSucceeded { .. }
        | DiskWork::ProofNotSent { .. }
        | DiskWork::CountGuess { .. }
        | DiskWork::Forget { .. }
        | DiskWork::Sync { .. }
        | DiskWork::Journal { .. }
        | DiskWork::Close { .. }
        | DiskWork::Discard { .. } => DiskDone::Ok,
    }
}

fn chunk() -> Chunk {
    Chunk::of(&[7; 9])
}

fn secret() -> ShareSecret {
    ShareSecret::from_bytes([5; 32])
}

fn entries() -> Vec<Entry> {
    let file = |path: &str, size| Entry {
        path: SafePath::parse(path).expect("a path"),
        kind: EntryKind::File {
            size,
            mode: 0o755,
            modified: Timestamp::default(),
        },
    };
    vec![
        Entry {
            path: SafePath::parse("d").expect("a path"),
            kind: EntryKind::Folder {
                mode: 0o755,
                modified: Timestamp::default(),
            },
        },
        file("d/empty", 0),
        file("d/one", 1),
        file("d/small", 5),
        file("large", 3 * u64::from(GROUP) + 5),
        Entry {
            path: SafePath::parse("link").expect("a path"),
            kind: EntryKind::Symlink {
                target: "large".into(),
            },
        },
    ]
}

/// Returns the manifest of the scripted peer's share.
fn signed() -> SignedManifest {
    let keys: Keypair = super::keys(2);
    let parts = ManifestParts {
        entries: entries(),
        ..ManifestParts::default()
    };
    SignedManifest::sign(parts, &keys, &Limits::default()).expect("a manifest")
}

fn take(bytes: &mut &[u8]) -> u8 {
    match bytes.split_first() {
        Some((first, rest)) => {
            *bytes = rest;
            *first
        }
        None => 0,
    }
}

/// Takes as many bytes as the first byte says.
fn take_many(bytes: &mut &[u8]) -> Bytes {
    let len = usize::from(take(bytes)).min(bytes.len());
    let (many, rest) = bytes.split_at(len);
    *bytes = rest;
    Bytes::copy_from_slice(many)
}
