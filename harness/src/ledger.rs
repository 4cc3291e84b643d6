//! Counts the faults that took effect and the invariants that were checked during runs.
//!
//! A run stays on one thread, and so does its ledger: [`take`] returns the counts of this thread and resets them. A
//! violated invariant panics with its name in brackets; [`Promise::of`] extracts the name from the panic message.

use std::cell::RefCell;

macro_rules! counted {
    ($(#[$doc:meta])* $kind:ident: $($(#[$item_doc:meta])* $item:ident = $name:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind {
            $($(#[$item_doc])* $item,)*
        }

        impl $kind {
            /// All variants.
            pub const ALL: &'static [Self] = &[$(Self::$item,)*];

            /// The name shown in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$item => $name,)*
                }
            }
        }
    };
}

counted!(
    /// A kind of fault.
    Fault:
    /// A link has delay and jitter.
    Delay = "delay and jitter",
    /// A link has the delay of a satellite connection.
    Satellite = "satellite delay",
    /// A link carries less than 64 kB per second.
    Narrow = "narrow link",
    /// A link delivered nothing for a while, then everything at once.
    Stall = "stall",
    /// Short stalls in bursts: how packet loss appears above a retransmitting transport.
    Loss = "loss in bursts",
    /// A link was reset mid-stream.
    Reset = "reset",
    /// A link went silent without notice to either end.
    Silence = "silence",
    /// Two groups of hosts could not reach each other.
    Split = "partition: split",
    /// One host could reach no other.
    Isolated = "partition: one isolated",
    /// Only one direction was cut.
    OneWay = "partition: one way",
    /// A NAT's filtering blocked a dial.
    NatFiltered = "NAT filtering",
    /// A NAT uses a different mapping for each peer, so the known address did not work.
    NatMapping = "NAT mapping",
    /// A NAT dropped an idle mapping.
    NatExpiry = "NAT expiry",
    /// A NAT dropped all its mappings.
    NatRebind = "NAT rebind",
    /// A host moved to another network.
    Roam = "roam",
    /// A relay ended a circuit that had reached its byte limit.
    RelayBytes = "relay: bytes",
    /// A relay ended a circuit that had reached its time limit.
    RelayTime = "relay: time",
    /// A download used circuits whose limits were known.
    Circuits = "circuits with known limits",
    /// The budget for bytes over relays was used up.
    RelaysSpared = "relays spared",
    /// A relay refused a circuit.
    RelayRefuses = "relay refuses",
    /// A relay disappeared, along with its circuits.
    RelayGone = "relay vanishes",
    /// A better path became available mid-transfer.
    BetterPath = "better path",
    /// A sharer lost power and was restarted.
    SharerCrash = "crash of a sharer",
    /// A receiver lost power and was restarted.
    ReceiverCrash = "crash of a receiver",
    /// Power was lost while files were being published.
    CrashInPublish = "crash while publishing",
    /// Power was lost while a journal was being written.
    CrashInJournal = "crash while noting",
    /// A download resumed from data that an earlier one left.
    Resumed = "resumed",
    /// The correct file already existed under its final name.
    Stood = "file stood there",
    /// The file existed elsewhere on the disk.
    Adopted = "file known",
    /// A remembered file had changed since.
    KnownChanged = "known file changed",
    /// A file was copied from an identical one of the same download.
    Duplicate = "equal files",
    /// Some bytes of a file were taken from an older version of it.
    Reused = "older version",
    /// A chunk of an older version has the same hash as a different chunk.
    Clash = "hashes clash",
    /// Unsynced writes were lost in a crash.
    LostWrites = "unsynced writes lost",
    /// Writes were torn at block boundaries in a crash.
    TornWrites = "writes torn",
    /// A host was suspended: only its clock continued.
    Sleep = "suspend",
    /// The wall clock jumped.
    WallClock = "wall clock jumps",
    /// The driver's clock went back for a moment.
    ClockBack = "clock goes back",
    /// A write found no disk space.
    DiskFull = "disk full",
    /// Disk space became available again.
    RoomAgain = "room again",
    /// A disk job failed.
    IoError = "I/O error",
    /// A read returned fewer bytes than requested.
    ShortRead = "short read",
    /// Bytes of a shared file changed on the disk.
    Rot = "bit rot",
    /// Bytes that one run left for the next changed on the disk.
    StagedRot = "staged bytes rot",
    /// The disk was slow to write or sync.
    SlowDisk = "slow disk",
    /// A rename to a final name failed.
    RenameFails = "rename fails",
    /// A file name was taken at the last moment.
    NameTaken = "name taken meanwhile",
    /// A lookup found nothing.
    DhtEmpty = "DHT empty",
    /// A lookup found outdated addresses.
    DhtStale = "DHT stale",
    /// A lookup found records planted by hostile nodes.
    DhtHostile = "DHT hostile",
    /// No DHT node answered.
    DhtGone = "DHT gone",
    /// A link used a connection that the other side had opened.
    CalledBack = "called back",
    /// A link used a connection opened by hole punching.
    Punched = "hole punched",
    /// A receiver was served by another receiver.
    Seeder = "receiver that serves",
    /// The sharer was unreachable and a seeder supplied the manifest.
    Deputy = "manifest of another than the sharer",
    /// An impostor of a short code's sharer received a password proof and refused it.
    StandInRefuses = "stand-in refuses a proof",
    /// An impostor received a password proof and did not answer.
    StandInIsSilent = "stand-in is silent",
    /// An impostor received a password proof and answered that it was busy.
    StandInIsBusy = "stand-in is busy",
    /// An impostor received a password proof and answered that it had no such share.
    StandInForgets = "stand-in forgets",
    /// An impostor received a password proof and dropped the link.
    StandInHangsUp = "stand-in hangs up",
    /// An impostor received a password proof and sent its answer one byte at a time.
    StandInDrips = "stand-in drips",
    /// An impostor received a password proof and sent an invalid answer.
    StandInTalksRubbish = "stand-in talks rubbish",
    /// An impostor received a password proof and answered as if it knew the words.
    StandInGuesses = "stand-in guesses",
    /// An impostor did not even answer the handshake request.
    StandInIsMute = "stand-in is mute",
    /// The user paused and resumed.
    Pause = "user pauses",
    /// Content was transferred under a rate limit.
    Limit = "limit",
    /// A rate limit that content had been transferred under was changed or removed.
    LimitChanged = "limit changed",
    /// A transfer was given a higher or lower priority than others.
    Preferred = "priority given",
    /// A share was paused and resumed.
    SharePaused = "share paused",
    /// The user cancelled.
    Cancel = "user cancels",
    /// The user declined an offer.
    Decline = "user declines",
    /// The user took a long time to answer an offer.
    Dither = "user takes time",
    /// A shared file was changed.
    FileChanged = "file changed",
    /// A shared file was removed.
    FileRemoved = "file removed",
    /// A share was withdrawn.
    Withdrawn = "share withdrawn",
    /// A program was shut down cleanly.
    Shutdown = "shut down",
    /// A short code was tried with wrong words.
    WrongWords = "wrong words",
    /// A short code was used without any other information.
    ShortCode = "short code alone",
    /// A malicious sharer lied.
    Lie = "lying sharer",
    /// A malicious receiver attacked.
    Attack = "attacking receiver",
);

counted!(
    /// An invariant: must hold at all times.
    Promise:
    /// A published file equals the shared one.
    Published = "published",
    /// No unverified data appears under a final name or in a pipe.
    Verified = "verified",
    /// Completed files stay complete, even across crashes.
    Kept = "kept",
    /// Nothing outside of the download's folder changes.
    Inside = "inside",
    /// Queued data stays within the limits, per peer and in total.
    Bounded = "bounded",
    /// No second carries more than a rate limit allows, plus one request.
    Paced = "paced",
    /// Relays with limits carry no more circuits, and no more bytes per time, than allowed.
    Relays = "relays",
    /// `poll_output` finishes, time advances, and no timeout is in the past.
    Progress = "progress",
    /// No key seals two frames with the same number.
    Nonces = "nonces",
    /// No honest peer is blamed.
    Honest = "honest",
    /// A peer that lies or attacks is dropped after a bounded number of violations.
    Dropped = "dropped",
    /// No byte range is requested twice at the same time.
    Once = "once",
    /// The number of wrong guesses at a short code's words is bounded, across all links and restarts.
    Guesses = "guesses",
    /// The number of unsuccessful password proofs per short code is bounded, across all peers and restarts.
    Proofs = "proofs",
    /// A peer that does not know the secret gets no key and no content.
    Strangers = "strangers",
    /// No secret appears where users or eavesdroppers can see it.
    Secrets = "secrets",
    /// Every command ends exactly once, and no event follows its end.
    EndsOnce = "ends-once",
    /// Nothing is written after a cancel.
    Cancelled = "cancelled",
    /// After all faults have ended, everything that can complete does so in time.
    Completes = "completes",
    /// Bytes fetched again amount to less than a window per fault.
    Frugal = "frugal",
    /// Everything that a journal lists is on the disk, whatever writes were lost.
    Noted = "noted",
    /// Received bytes and reused bytes add up to the content that is present.
    Spared = "spared",
    /// A completed download accounts for every file.
    Accounted = "accounted",
);

impl Promise {
    /// The invariant that a panic message names, or `None` if the panic was not a violation.
    pub fn of(words: &str) -> Option<Self> {
        let name = words.strip_prefix('[')?.split(']').next()?;
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Number of times that each fault took effect and each invariant was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    faults: Vec<u64>,
    promises: Vec<u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            faults: vec![0; Fault::ALL.len()],
            promises: vec![0; Promise::ALL.len()],
        }
    }
}

impl Ledger {
    /// Number of times that a fault took effect.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// Number of times that an invariant was checked.
    pub fn promise(&self, promise: Promise) -> u64 {
        self.promises[promise as usize]
    }

    /// Adds the counts of another ledger.
    pub fn add(&mut self, other: &Self) {
        let all = |ours: &mut Vec<u64>, theirs: &[u64]| {
            for (mine, more) in ours.iter_mut().zip(theirs) {
                *mine += more;
            }
        };
        all(&mut self.faults, &other.faults);
        all(&mut self.promises, &other.promises);
    }
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::default();
}

/// Returns the counts of this thread since the last call, and resets them.
pub fn take() -> Ledger {
    LEDGER.take()
}

/// Counts a fault that took effect.
pub(crate) fn happened(fault: Fault) {
    LEDGER.with_borrow_mut(|ledger| ledger.faults[fault as usize] += 1);
}

/// Counts a check of an invariant.
pub(crate) fn looked_at(promise: Promise) {
    LEDGER.with_borrow_mut(|ledger| ledger.promises[promise as usize] += 1);
}

/// Checks an invariant, and panics if it is violated.
macro_rules! promise {
    ($promise:ident, $held:expr, $($words:tt)+) => {{
        let held: bool = $held;
        $crate::ledger::looked_at($crate::ledger::Promise::$promise);
        if !held {
            panic!("[{}] {}", $crate::ledger::Promise::$promise.name(), format_args!($($words)+));
        }
    }};
}
pub(crate) use promise;
