//! A host's disk, in memory: performs all disk jobs in virtual time, with the faults that a scenario requests.

mod chunks;
mod known;
mod landing;
mod source;
mod staged;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use handover_core::PeerId;
use handover_core::code::ShortCode;
use handover_core::engine::{
    DiskDone, DiskError, DiskWork, DownloadId, JobId, Scanned, ShareId, SinkKind,
};
use handover_core::limits::GROUP;
use handover_core::merkle::Hash;
use handover_core::time::Timestamp;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

pub(crate) use chunks::cut;
pub(crate) use landing::Landing;
pub use staged::Leftover;

pub(crate) use source::{Model, Source, SourceKind, wall_clock};

use crate::ledger::{Fault, happened};
use crate::tree::Tree;

/// Duration of disk jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskProfile {
    /// Listing a share.
    pub scan: Duration,
    /// Reading a request's bytes.
    pub read: Duration,
    /// Hashing the groups of one job.
    pub hash: Duration,
    /// Writing the pieces of one job.
    pub write: Duration,
    /// Syncing written data, so that it survives a power failure.
    pub sync: Duration,
    /// Publishing the files of one job, staging, finishing and so on.
    pub other: Duration,
    /// Maximum additional time, drawn for each job, so that jobs end in a different order than they began.
    pub jitter: Duration,
}

impl DiskProfile {
    /// All jobs take no time and end in order.
    pub const INSTANT: Self = Self {
        scan: Duration::ZERO,
        read: Duration::ZERO,
        hash: Duration::ZERO,
        write: Duration::ZERO,
        sync: Duration::ZERO,
        other: Duration::ZERO,
        jitter: Duration::ZERO,
    };
}

impl Default for DiskProfile {
    /// 0.1 ms, and up to 0.5 ms more.
    fn default() -> Self {
        let quick = Duration::from_micros(100);
        Self {
            scan: quick,
            read: quick,
            hash: quick,
            write: quick,
            sync: quick,
            other: quick,
            jitter: Duration::from_micros(500),
        }
    }
}

/// A kind of disk job, used to make one fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// [`DiskWork::Scan`].
    Scan,
    /// [`DiskWork::Read`].
    Read,
    /// [`DiskWork::HashGroups`], [`DiskWork::HashStaged`].
    Hash,
    /// [`DiskWork::ReadPipe`].
    ReadPipe,
    /// [`DiskWork::Chunk`].
    Chunk,
    /// [`DiskWork::Candidates`].
    Look,
    /// [`DiskWork::Adopt`].
    Adopt,
    /// [`DiskWork::Reuse`].
    Reuse,
    /// [`DiskWork::Inspect`].
    Inspect,
    /// [`DiskWork::Stage`].
    Stage,
    /// [`DiskWork::Write`].
    Write,
    /// [`DiskWork::Sync`].
    Sync,
    /// [`DiskWork::Journal`].
    Journal,
    /// [`DiskWork::Publish`].
    Publish,
    /// [`DiskWork::Finish`].
    Finish,
    /// [`DiskWork::NoteRoots`], [`DiskWork::CountProof`], [`DiskWork::ProofSucceeded`], [`DiskWork::ProofNotSent`], [`DiskWork::Forget`], [`DiskWork::Discard`] and [`DiskWork::Close`].
    Forget,
}

impl JobKind {
    pub(crate) fn of(work: &DiskWork) -> Self {
        match work {
            DiskWork::Scan { .. } => Self::Scan,
            DiskWork::Read { .. } | DiskWork::ReadBack { .. } => Self::Read,
            DiskWork::HashGroups { .. } | DiskWork::HashStaged { .. } => Self::Hash,
            DiskWork::ReadPipe { .. } => Self::ReadPipe,
            DiskWork::Chunk { .. } => Self::Chunk,
            DiskWork::Candidates { .. } => Self::Look,
            DiskWork::Adopt { .. } => Self::Adopt,
            DiskWork::Reuse { .. } => Self::Reuse,
            DiskWork::Inspect { .. } => Self::Inspect,
            DiskWork::Stage { .. } => Self::Stage,
            DiskWork::Write { .. } => Self::Write,
            DiskWork::Sync { .. } => Self::Sync,
            DiskWork::Journal { .. } => Self::Journal,
            DiskWork::Publish { .. } => Self::Publish,
            DiskWork::Finish { .. } => Self::Finish,
            DiskWork::NoteRoots { .. }
            | DiskWork::CountGuess { .. }
            | DiskWork::CountProof { .. }
            | DiskWork::ProofSucceeded { .. }
            | DiskWork::ProofNotSent { .. }
            | DiskWork::Forget { .. }
            | DiskWork::Discard { .. }
            | DiskWork::Close { .. } => Self::Forget,
        }
    }
}

/// A host's disk. A job takes effect when it ends, but files are read when it begins.
#[derive(Default)]
pub struct Disk {
    /// Duration of jobs.
    pub profile: DiskProfile,
    /// Bytes that can still be written; `None` for unlimited.
    pub room: Option<u64>,
    /// Names that can't be read or published.
    pub denied: BTreeSet<String>,
    /// Number of bytes after which pipes close.
    pub pipe_closes_after: Option<u64>,
    /// Number of renames to final names that fail.
    pub renames_fail: u32,
    /// True if wrong bytes may be written to pipes, as long as the download does not complete.
    pub pipes_may_be_wrong: bool,
    /// True if files get their final names before they are synced. Used to check that the simulator detects this.
    pub forgets_to_sync: bool,
    /// True if shared or fetched files are found again by their hash.
    pub remembers: bool,
    /// Number of chunks of older versions whose hashes collide with other chunks.
    pub clashes: u32,
    /// Remembered files with their current content.
    pub(super) known: BTreeMap<Hash, Bytes>,
    /// Short code of each download that has one. `proofs` has, by code, the number of proofs sent and the peer that one
    /// succeeded with.
    codes: BTreeMap<DownloadId, String>,
    proofs: BTreeMap<String, (u32, Option<PeerId>)>,
    /// The wall clock, as reported by scans.
    pub clock: Timestamp,
    /// Highest number of concurrent jobs so far.
    pub(crate) most_jobs: usize,
    failing: VecDeque<(JobKind, DiskError)>,
    pub(crate) sources: BTreeMap<ShareId, Source>,
    pub(crate) landings: BTreeMap<DownloadId, Landing>,
    pending: BTreeMap<JobId, DiskWork>,
    /// Results of pending reads.
    seen: BTreeMap<JobId, DiskDone>,
}

impl Disk {
    /// Makes the next job of this kind fail with this error.
    pub fn fail_next(&mut self, kind: JobKind, error: DiskError) {
        self.failing.push_back((kind, error));
    }

    /// Sets a download's short code. Returns the number of password proofs sent by earlier downloads, and the peer that
    /// one of them succeeded with.
    pub(crate) fn proofs_of(
        &mut self,
        download: DownloadId,
        code: &ShortCode,
    ) -> (u32, Option<PeerId>) {
        let code = code.encode();
        let noted = self.proofs.get(&code).copied().unwrap_or_default();
        self.codes.insert(download, code);
        noted
    }

    fn noted_proofs(
        &mut self,
        download: DownloadId,
    ) -> Result<&mut (u32, Option<PeerId>), DiskError> {
        let code = self.codes.get(&download).ok_or(DiskError::NotFound)?;
        Ok(self.proofs.entry(code.clone()).or_default())
    }

    /// Replaces a shared file's content, and changes its modification time.
    pub fn change(&mut self, share: ShareId, path: &str, bytes: impl Into<Bytes>) {
        self.shared(share).change(path, bytes.into());
    }

    /// Removes a shared file.
    pub fn remove(&mut self, share: ShareId, path: &str) {
        let removed = self.shared(share).0.remove(path);
        assert!(removed.is_some(), "{path} is not there to be removed");
    }

    /// Flips a bit of a shared file without changing its modification time. Returns the new content of the share.
    pub(crate) fn rot(&mut self, share: ShareId, path: &str, at: usize) -> Option<SourceKind> {
        let tree = self.shared(share);
        let Some(crate::Node::File { bytes, .. }) = tree.0.get_mut(path) else {
            return None;
        };
        let mut rotten = bytes.to_vec();
        let len = rotten.len();
        *rotten.get_mut(at % len.max(1))? ^= 1;
        *bytes = rotten.into();
        happened(Fault::Rot);
        Some(SourceKind::Tree(tree.clone()))
    }

    /// The current content of a share.
    pub(crate) fn shared_now(&self, share: ShareId) -> &SourceKind {
        &self.sources[&share].kind
    }

    /// True if a published file, or one that existed before, is present and complete.
    pub(crate) fn holds(&self, download: DownloadId, path: &str) -> bool {
        self.landing(download).holds(path)
    }

    /// True if exactly one whole shared file went through the pipe.
    pub(crate) fn pipe_is_whole(&self, download: DownloadId) -> bool {
        self.landing(download).pipe_is_whole()
    }

    /// Checks that every file in a download's folder existed before or equals the shared one.
    pub(crate) fn look_at_folder(&self, download: DownloadId) {
        self.landing(download).look();
    }

    /// Checks the folders of all downloads.
    pub(crate) fn look_at_folders(&self) {
        for landing in self.landings.values() {
            landing.look();
        }
    }

    /// True if a download belongs to this host.
    pub(crate) fn has(&self, download: DownloadId) -> bool {
        self.landings.contains_key(&download)
    }

    /// Ends all disk faults.
    pub(crate) fn heal(&mut self) {
        self.room = None;
        self.denied.clear();
        self.renames_fail = 0;
        self.failing.clear();
    }

    /// Creates a file in a download's folder as another program would.
    pub fn put(&mut self, download: DownloadId, path: &str, bytes: impl Into<Bytes>) {
        let landing = self.landings.get_mut(&download);
        let landing = landing.expect("a download of this host");
        landing.put(path, bytes.into());
    }

    /// Content of a download's folder: published files, and what existed before.
    pub fn folder(&self, download: DownloadId) -> &Tree {
        &self.landing(download).folder
    }

    /// Bytes written to a download's pipe.
    pub fn pipe(&self, download: DownloadId) -> &[u8] {
        &self.landing(download).pipe
    }

    /// Data that a download left for the next one into its folder.
    pub fn leftover(&self, download: DownloadId) -> Leftover {
        self.landing(download).leftover()
    }

    /// True if a download has a staging folder.
    pub fn is_staged(&self, download: DownloadId) -> bool {
        self.landing(download).is_staged()
    }

    fn landing(&self, download: DownloadId) -> &Landing {
        let landing = self.landings.get(&download);
        landing.expect("a download of this host")
    }

    fn shared(&mut self, share: ShareId) -> &mut Tree {
        match self.sources.get_mut(&share).map(|source| &mut source.kind) {
            Some(SourceKind::Tree(tree)) => tree,
            _ => panic!("share {share} is no tree of this host"),
        }
    }

    /// Begins a job. Returns its duration.
    pub(crate) fn begin(&mut self, job: JobId, work: DiskWork, rng: &mut ChaCha8Rng) -> Duration {
        let took = match JobKind::of(&work) {
            JobKind::Scan => self.profile.scan,
            JobKind::Read | JobKind::ReadPipe => self.profile.read,
            JobKind::Hash | JobKind::Chunk => self.profile.hash,
            JobKind::Write => self.profile.write,
            JobKind::Sync => self.profile.sync,
            _ => self.profile.other,
        };
        if let DiskWork::ReadPipe { share, .. } = &work {
            let busy = self.pending.values().any(
                |other| matches!(other, DiskWork::ReadPipe { share: reads, .. } if reads == share),
            );
            assert!(!busy, "a pipe is read by two jobs at once");
        }
        if let Some(done) = self.look(&work) {
            self.seen.insert(job, done);
        }
        let before = self.pending.insert(job, work);
        assert!(before.is_none(), "job {job} was given out twice");
        self.most_jobs = self.most_jobs.max(self.pending.len());
        let jitter = u64::try_from(self.profile.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = if jitter == 0 {
            0
        } else {
            rng.next_u64() % jitter
        };
        took + Duration::from_nanos(jitter)
    }

    /// Bytes queued for writing for a download.
    pub(crate) fn unwritten(&self, download: DownloadId) -> u64 {
        let waiting = self.pending.values().filter_map(|work| match work {
            DiskWork::Write {
                download: id,
                pieces,
            } if *id == download => Some(pieces),
            _ => None,
        });
        let pieces = waiting.flatten();
        pieces.map(|piece| piece.data.len() as u64).sum()
    }

    /// The share that a job lists, if it is a scan.
    pub(crate) fn scans(&self, job: JobId) -> Option<ShareId> {
        match self.pending.get(&job) {
            Some(DiskWork::Scan { share }) => Some(*share),
            _ => None,
        }
    }

    /// Number of jobs in progress.
    pub(crate) fn jobs(&self) -> usize {
        self.pending.len()
    }

    /// Power failure: drops the jobs in progress, of which publishing may be partly done, and loses or tears unsynced
    /// data.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) {
        let pending = std::mem::take(&mut self.pending);
        self.seen.clear();
        self.failing.clear();
        for work in pending.into_values() {
            self.crash_in(work, rng);
        }
        let forgets = self.forgets_to_sync;
        for landing in self.landings.values_mut() {
            landing.crash(rng, forgets);
        }
    }

    /// Performs part of a job that was in progress at a power failure.
    fn crash_in(&mut self, work: DiskWork, rng: &mut ChaCha8Rng) {
        let _ = match work {
            DiskWork::Publish {
                download, files, ..
            } => {
                let some = draw_below(rng, files.len() + 1);
                happened(Fault::CrashInPublish);
                self.land(download, |landing, disk| {
                    landing.publish(&files[..some], disk)
                })
            }
            DiskWork::Write {
                download,
                mut pieces,
            } => {
                pieces.truncate(draw_below(rng, pieces.len() + 1));
                self.land(download, |landing, disk| landing.write(pieces, disk))
            }
            DiskWork::Journal { download, record } => {
                happened(Fault::CrashInJournal);
                // A journal record is written completely or not at all.
                if draw_below(rng, 2) == 0 {
                    return;
                }
                self.land(download, |landing, _| landing.note(record))
            }
            _ => return,
        };
    }

    /// Ends a job by performing its work.
    pub(crate) fn end(&mut self, job: JobId) -> DiskDone {
        let work = self.pending.remove(&job).expect("a job that was begun");
        let seen = self.seen.remove(&job);
        let kind = JobKind::of(&work);
        if let Some(at) = self
            .failing
            .iter()
            .position(|(failing, _)| *failing == kind)
            && let Some((_, error)) = self.failing.remove(at)
        {
            happened(Fault::IoError);
            return DiskDone::Failed(error);
        }
        seen.unwrap_or_else(|| self.perform(work).unwrap_or_else(DiskDone::Failed))
    }

    /// Performs the reading part of a job, if it has one.
    fn look(&mut self, work: &DiskWork) -> Option<DiskDone> {
        let denied = self.denied.clone();
        let done = match work {
            DiskWork::Read {
                share,
                segments,
                hash,
            } => self
                .source(*share)
                .map(|source| source.read(segments, *hash, &denied)),
            DiskWork::HashGroups {
                share,
                entry,
                first,
                count,
            } => self
                .source(*share)
                .and_then(|source| source.hash(*entry, *first, *count, &denied)),
            DiskWork::HashStaged {
                download,
                entry,
                first,
                count,
            } => return Some(self.landing(*download).hash_staged(*entry, *first, *count)),
            DiskWork::ReadBack { download, segments } => {
                return Some(self.landing(*download).read_back(segments));
            }
            DiskWork::Chunk { share, entry } => self
                .source(*share)
                .and_then(|source| source.chunk(*entry, &denied)),
            _ => return None,
        };
        Some(done.unwrap_or_else(DiskDone::Failed))
    }

    fn perform(&mut self, work: DiskWork) -> Result<DiskDone, DiskError> {
        match work {
            DiskWork::Scan { share } => Ok(DiskDone::Scanned(Scanned {
                at: self.clock,
                ..self.source(share)?.scan()
            })),
            DiskWork::Read { .. }
            | DiskWork::ReadBack { .. }
            | DiskWork::HashGroups { .. }
            | DiskWork::HashStaged { .. }
            | DiskWork::Chunk { .. } => {
                unreachable!("it was looked at when it began")
            }
            DiskWork::NoteRoots { share, roots } => {
                self.note_shared(share, &roots);
                Ok(DiskDone::Ok)
            }
            DiskWork::Candidates { download, files } => {
                Ok(self.landing(download).candidates(&files, self))
            }
            DiskWork::Adopt { download, files } => {
                self.land(download, |landing, disk| landing.adopt(&files, disk))
            }
            DiskWork::Reuse {
                download,
                file,
                chunks,
            } => self.land(download, |landing, disk| {
                landing.reuse(&file, &chunks, disk)
            }),
            DiskWork::ReadPipe {
                share,
                offset,
                len,
                keep_from,
            } => {
                assert!(len <= GROUP, "a pipe is read by {len} bytes");
                Ok(self.source(share)?.read_pipe(offset, len, keep_from))
            }
            DiskWork::Forget { share } => {
                // Keeps the content, which a restarted scenario may share again. This only ends the reading.
                self.source(share)?.forgotten = true;
                Ok(DiskDone::Ok)
            }
            DiskWork::Inspect {
                download,
                paths,
                origin,
            } => {
                let landing = self.landing(download);
                Ok(landing.inspect(&paths, &origin, self.room))
            }
            DiskWork::Stage { download, origin } => {
                self.land(download, |landing, _| landing.stage(&origin))
            }
            DiskWork::Sync { download, entries } => {
                self.land(download, |landing, _| landing.sync(&entries))
            }
            DiskWork::Journal { download, record } => {
                self.land(download, |landing, _| landing.note(record))
            }
            DiskWork::Write { download, pieces } => {
                self.land(download, |landing, disk| landing.write(pieces, disk))
            }
            DiskWork::Publish {
                download, files, ..
            } => self.land(download, |landing, disk| landing.publish(&files, disk)),
            DiskWork::Finish {
                download,
                folders,
                symlinks,
                ..
            } => self.land(download, |landing, _| landing.finish(&folders, &symlinks)),
            DiskWork::CountGuess { .. } => Ok(DiskDone::Ok),
            DiskWork::CountProof { download, most } => {
                let (sent, _) = self.noted_proofs(download)?;
                let makes = *sent + 1;
                *sent = makes.min(most.max(*sent));
                Ok(DiskDone::ProofCounted { sent: makes })
            }
            DiskWork::ProofNotSent { download } => {
                let (sent, _) = self.noted_proofs(download)?;
                *sent -= 1;
                Ok(DiskDone::Ok)
            }
            DiskWork::ProofSucceeded { download, sharer } => {
                let (sent, known) = self.noted_proofs(download)?;
                *sent -= 1;
                *known = Some(sharer);
                Ok(DiskDone::Ok)
            }
            DiskWork::Discard { download } => {
                self.land(download, |landing, _| Ok(landing.discard()))
            }
            DiskWork::Close { download } => self.land(download, |landing, _| Ok(landing.close())),
        }
    }

    fn source(&mut self, share: ShareId) -> Result<&mut Source, DiskError> {
        self.sources.get_mut(&share).ok_or(DiskError::NotFound)
    }

    /// Performs an action on a download's destination that also needs the rest of the disk.
    fn land(
        &mut self,
        download: DownloadId,
        act: impl FnOnce(&mut Landing, &mut Self) -> Result<DiskDone, DiskError>,
    ) -> Result<DiskDone, DiskError> {
        let landing = self.landings.remove(&download);
        let mut landing = landing.expect("a download of this host");
        let done = act(&mut landing, self);
        self.landings.insert(download, landing);
        done
    }

    /// Reserves disk space.
    fn take_room(&mut self, bytes: u64) -> Result<(), DiskError> {
        match &mut self.room {
            Some(room) if *room < bytes => {
                happened(Fault::DiskFull);
                Err(DiskError::Full)
            }
            Some(room) => {
                *room -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn add_landing(
        &mut self,
        download: DownloadId,
        sink: SinkKind,
        existing: Tree,
        leftover: Leftover,
        model: Option<Model>,
    ) {
        let landing = Landing::new(sink, existing, leftover, model);
        self.landings.insert(download, landing);
    }
}

/// A random number below `most`, which must not be zero.
fn draw_below(rng: &mut ChaCha8Rng, most: usize) -> usize {
    let most = most as u64;
    usize::try_from(rng.next_u64() % most).unwrap_or_default()
}
