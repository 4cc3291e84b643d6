//! What a run writes to the store: each transfer that ends, what peers did in it, and new pairings.
//!
//! The recorder reads the engine's events. A separate thread writes, because another process may be using the store and
//! no transfer may wait for that. What cannot be written is logged and dropped.

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

/// Maximum number of notes waiting to be written. Further notes are lost.
const WAITING: usize = 256;
/// Timeout at the end of a run for the notes still to be written.
const WRITTEN: Duration = Duration::from_secs(5);
/// Timeout at the start of a run for reading the records of known peers. The run works without them.
const STANDINGS: Duration = Duration::from_millis(300);
/// Maximum number of peers whose reputation is passed to the engine.
const TOLD: usize = 1000;

/// Known peers and their records.
pub(crate) type Met = Vec<(PeerId, PeerRecord)>;

/// The store of a run, and what may be written to it.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) store: Store,
    /// True if transfers and peers are recorded. Otherwise, only pairings are.
    pub(crate) keeps: bool,
    folder: PathBuf,
}

impl Memory {
    /// Uses the store in this data folder. Records no transfers and peers if `no_history` or the settings say so.
    pub(crate) fn new(data_dir: &Path, no_history: bool) -> Result<Self, Failure> {
        Ok(Self {
            store: Store::in_folder(data_dir),
            keeps: Settings::read(data_dir)?.history && !no_history,
            folder: data_dir.to_path_buf(),
        })
    }

    /// Configures a peer to use the stored data and to add to it. Returns the known peers, for [`tell_standings`].
    pub(crate) async fn prepare(&self, config: &mut handover::Config) -> Met {
        config.known_files = self.keeps.then(|| self.folder.clone());
        config.short_codes = Some(self.folder.clone());
        let met = self.peers().await;
        let known = met.iter().filter(|(_, record)| record.pair.is_some());
        config.known_peers = known.map(|(peer, _)| *peer).collect();
        met
    }

    /// Returns the data folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the known peers, the one met most recently first. Empty if they cannot be read in time.
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

/// Passes the reputation of known peers to the engine.
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
    /// The flag is `true` if nothing is to be recorded of an unknown peer.
    Meeting(PeerId, Meeting, bool),
    Pair(PeerId, String, Pair),
    Begun(Unfinished),
    Over(String),
    Open(String, Box<OpenShare>),
    Closed(String),
}

/// Direction of this run's transfers.
enum Side {
    Sent(Sent),
    Received(Received),
}

/// Records what happens in one run.
pub(crate) struct Recorder {
    memory: Memory,
    /// The identity of this device.
    us: PeerId,
    side: Side,
    /// State that lets another run continue this one.
    download: Option<unfinished::Download>,
    share: Option<unfinished::Share>,
    notes: SyncSender<Note>,
    writer: JoinHandle<Result<(), StoreError>>,
}

impl Recorder {
    /// Recorder of a share with this name.
    pub(crate) fn of_share(memory: Memory, us: PeerId, name: &str) -> Self {
        Self::start(memory, us, Side::Sent(Sent::new(name)))
    }

    /// Recorder of a download into this folder, or to a pipe.
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

    /// Adds a download that another run can continue.
    pub(crate) fn going_on(mut self, download: Option<unfinished::Download>) -> Self {
        self.download = download.filter(|_| self.memory.keeps);
        self
    }

    /// Adds a share that is to be served again if this run ends unexpectedly.
    pub(crate) fn serving_again(mut self, share: Option<unfinished::Share>) -> Self {
        self.share = share;
        self
    }

    /// Records the terms on which an offer is accepted.
    pub(crate) fn accepted(&mut self, on_conflict: OnConflict, executables: bool) {
        if let Some(download) = &mut self.download {
            download.accepted(on_conflict, executables);
        }
    }

    /// Records an event.
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

    /// Waits until everything is written, and reports failures to the user.
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

/// Reports, once, that the store had to be created anew.
pub(crate) fn tell_moved(store: &Store, screen: &Screen) {
    if let Some(aside) = store.moved_aside() {
        screen.need(Tone::Bad, &peers::begun_anew(&aside));
    }
}

/// Writes notes until the channel is closed. Fails if a pairing could not be stored: only that loss matters to the
/// user.
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
