//! What a run leaves in the store: each transfer that ends, what peers did in it, and what was agreed on with them.
//!
//! It is read off the engine's events. A thread of its own writes, for the store may be in use by another process, and
//! no transfer is to wait for that. What can't be written is logged and forgotten.

mod received;
mod sent;
pub(crate) mod unfinished;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use handover::UnifiedP2PManager;
use handover::store::{
    Meeting, OpenShare, Pair, PeerRecord, Store, StoreError, Transfer, Unfinished, standing,
};
use handover_core::PeerId;
use handover_core::engine::{Event, OnConflict};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::received::Received;
use self::sent::Sent;
use super::failure::Failure;
use super::json;
use super::screen::{Screen, Tone, peers};
use super::settings::Settings;

/// Notes that wait to be written at the most; what comes then is lost.
const WAITING: usize = 256;
/// How long a run waits at its end for what is not written yet.
const WRITTEN: Duration = Duration::from_secs(5);
/// How long a run waits at its beginning to hear how peers have done before: without that it goes as well.
const STANDINGS: Duration = Duration::from_millis(300);
/// Peers whose standing is told.
const TOLD: usize = 1000;

/// Peers that were met before, and how they did.
pub(crate) type Met = Vec<(PeerId, PeerRecord)>;

/// Where a run remembers, and whether it is to.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) store: Store,
    /// Transfers and peers are noted. Without it only what was agreed on with a peer is.
    pub(crate) keeps: bool,
    folder: PathBuf,
}

impl Memory {
    /// In this data folder, unless the user does not want it, now or ever.
    pub(crate) fn new(data_dir: &Path, no_history: bool) -> Result<Self, Failure> {
        Ok(Self {
            store: Store::in_folder(data_dir),
            keeps: Settings::read(data_dir)?.history && !no_history,
            folder: data_dir.to_path_buf(),
        })
    }

    /// Has a peer make use of what is remembered, and note more of it. Returns the peers that were met, for
    /// [`tell_standings`].
    pub(crate) async fn prepare(&self, config: &mut handover::Config) -> Met {
        config.known_files = self.keeps.then(|| self.folder.clone());
        config.short_codes = Some(self.folder.clone());
        let met = self.peers().await;
        let known = met.iter().filter(|(_, record)| record.pair.is_some());
        config.known_peers = known.map(|(peer, _)| *peer).collect();
        met
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The peers that were met, who was met last first; none where that can't be read now.
    async fn peers(&self) -> Met {
        let store = self.store.clone();
        let read = spawn_blocking(move || store.peers());
        match timeout(STANDINGS, read).await {
            Ok(Ok(Ok(known))) => known,
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "which peers were met before is not known");
                Vec::new()
            }
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

/// Tells a peer how others have done before.
pub(crate) async fn tell_standings(met: &Met, manager: &UnifiedP2PManager) -> Result<(), Failure> {
    let told = met
        .iter()
        .take(TOLD)
        .map(|(peer, record)| (*peer, standing(record)))
        .filter(|(_, standing)| *standing != 0);
    Ok(manager.tell_standings(told.collect()).await?)
}

/// One note for the store.
#[derive(Debug)]
enum Note {
    Transfer(Transfer),
    /// `true` if nothing is to be noted of a peer that is not known yet.
    Meeting(PeerId, Meeting, bool),
    Pair(PeerId, String, Pair),
    Begun(Unfinished),
    Over(String),
    Open(String, Box<OpenShare>),
    Closed(String),
}

/// Which way things go in this run.
enum Side {
    Sent(Sent),
    Received(Received),
}

/// Notes what becomes of one run.
pub(crate) struct Recorder {
    memory: Memory,
    /// This device, as others know it.
    us: PeerId,
    side: Side,
    /// What another run could go on with.
    download: Option<unfinished::Download>,
    share: Option<unfinished::Share>,
    notes: SyncSender<Note>,
    writer: JoinHandle<Result<(), StoreError>>,
}

impl Recorder {
    /// Of a share that is called so.
    pub(crate) fn of_share(memory: Memory, us: PeerId, name: &str) -> Self {
        Self::start(memory, us, Side::Sent(Sent::new(name)))
    }

    /// Of a download into this folder, or to a pipe.
    pub(crate) fn of_download(memory: Memory, us: PeerId, folder: Option<&Path>) -> Self {
        Self::start(memory, us, Side::Received(Received::new(folder)))
    }

    fn start(memory: Memory, us: PeerId, side: Side) -> Self {
        let (notes, waiting) = sync_channel(WAITING);
        let store = memory.store.clone();
        let writer = std::thread::spawn(move || write(&store, &waiting));
        Self {
            memory,
            us,
            side,
            download: None,
            share: None,
            notes,
            writer,
        }
    }

    /// It is a download that another run could go on with.
    pub(crate) fn going_on(mut self, download: Option<unfinished::Download>) -> Self {
        self.download = download.filter(|_| self.memory.keeps);
        self
    }

    /// It is a share that is to be served again if this run ends without a word.
    pub(crate) fn serving_again(mut self, share: Option<unfinished::Share>) -> Self {
        self.share = share;
        self
    }

    /// An offer is taken on these terms.
    pub(crate) fn accepted(&mut self, on_conflict: OnConflict, executables: bool) {
        if let Some(download) = &mut self.download {
            download.accepted(on_conflict, executables);
        }
    }

    /// Something happened.
    pub(crate) fn event(&mut self, event: &Event) {
        if let Event::Paired { peer, name, secret } = event {
            let pair = Pair {
                us: self.us,
                secret: secret.clone(),
            };
            self.note(Note::Pair(*peer, name.clone(), pair));
        }
        let download = self.download.as_mut().and_then(|of| of.event(event));
        let share = self.share.as_mut().and_then(|of| of.event(event));
        for note in download.into_iter().chain(share) {
            self.note(note);
        }
        if !self.memory.keeps {
            return;
        }
        let (met, notes) = match &mut self.side {
            Side::Sent(sent) => (sent.has_met(event), sent.event(event)),
            Side::Received(received) => (received.has_met(event), received.event(event)),
        };
        for note in notes {
            self.note(note);
        }
        if let Event::PeerBlamed { peer, .. } = event {
            let meeting = Meeting {
                violations: 1,
                ..Meeting::default()
            };
            self.note(Note::Meeting(*peer, meeting, !met));
        }
    }

    fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            tracing::warn!("the store does not keep up: something is not remembered");
        }
    }

    /// Waits until all is written, and tells what the user has to know.
    pub(crate) async fn finish(self, screen: &Screen) {
        let Self { notes, writer, .. } = self;
        drop(notes);
        let joined = timeout(WRITTEN, spawn_blocking(move || writer.join())).await;
        if let Ok(Ok(Ok(Err(error)))) = joined {
            screen.event(&json::not_remembered(&error));
            screen.need(Tone::Bad, &peers::not_remembered(&error.to_string()));
        }
        tell_moved(&self.memory.store, screen);
    }
}

/// Says, once, that the store had to be begun anew.
pub(crate) fn tell_moved(store: &Store, screen: &Screen) {
    if let Some(aside) = store.moved_aside() {
        screen.need(Tone::Bad, &peers::begun_anew(&aside));
    }
}

/// Writes what comes until nothing more does. Fails if an agreement could not be kept: that alone is missed by somebody.
fn write(store: &Store, waiting: &Receiver<Note>) -> Result<(), StoreError> {
    let mut result = Ok(());
    for note in waiting {
        let written = match &note {
            Note::Transfer(transfer) => store.add_transfer(transfer),
            Note::Meeting(peer, meeting, known_only) => {
                store.meet(*peer, meeting, now(), *known_only)
            }
            Note::Pair(peer, name, pair) => store.pair(*peer, name, pair, now()),
            Note::Begun(download) => store.begin_download(download),
            Note::Over(key) => store.end_download(key),
            Note::Open(key, share) => store.open_share(key, share),
            Note::Closed(key) => store.close_share(key),
        };
        match (note, written) {
            (_, Ok(())) => {}
            (Note::Pair(..), Err(error)) => result = Err(error),
            (_, Err(error)) => tracing::warn!(%error, "something is not remembered"),
        }
    }
    result
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}
