//! What happened in runs, counted: faults that really bit, and promises that were really looked at.
//!
//! A run lives on one thread, and so does its ledger: [`take`] hands over what was counted on this thread and begins
//! anew. A promise that is broken panics with its name in brackets; [`Promise::of`] finds it again in the words.

use std::cell::RefCell;

macro_rules! counted {
    ($(#[$doc:meta])* $kind:ident: $($(#[$item_doc:meta])* $item:ident = $name:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind {
            $($(#[$item_doc])* $item,)*
        }

        impl $kind {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$item,)*];

            /// What it is called.
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
    /// A link with a delay and jitter.
    Delay = "delay and jitter",
    /// A delay of a satellite.
    Satellite = "satellite delay",
    /// A link of less than 64 kB a second.
    Narrow = "narrow link",
    /// Nothing arrived over a link for a while, then all did.
    Stall = "stall",
    /// Short stalls in bursts: what loss looks like above a transport that repeats.
    Loss = "loss in bursts",
    /// A link was lost in mid-stream.
    Reset = "reset",
    /// A link fell silent and nobody was told.
    Silence = "silence",
    /// Two groups of hosts could not reach each other.
    Split = "partition: split",
    /// One host could reach nobody.
    Isolated = "partition: one isolated",
    /// Only one direction was cut.
    OneWay = "partition: one way",
    /// A NAT's filtering kept a dial out.
    NatFiltered = "NAT filtering",
    /// A NAT's mapping was another for each peer, so the address was of no use.
    NatMapping = "NAT mapping",
    /// A NAT forgot a mapping that was idle.
    NatExpiry = "NAT expiry",
    /// A NAT forgot all its mappings.
    NatRebind = "NAT rebind",
    /// A host moved to another network.
    Roam = "roam",
    /// A relay ended a circuit that had carried its bytes.
    RelayBytes = "relay: bytes",
    /// A relay ended a circuit whose time was over.
    RelayTime = "relay: time",
    /// A sharer was fetched from over circuits whose limits were known.
    Circuits = "circuits with known limits",
    /// What relays may be asked to carry was used up.
    RelaysSpared = "relays spared",
    /// A relay refused a circuit.
    RelayRefuses = "relay refuses",
    /// A relay went, and its circuits with it.
    RelayGone = "relay vanishes",
    /// A better path came up in mid-transfer.
    BetterPath = "better path",
    /// A sharer lost power and came back.
    SharerCrash = "crash of a sharer",
    /// A receiver lost power and came back.
    ReceiverCrash = "crash of a receiver",
    /// Power was lost while files were being published.
    CrashInPublish = "crash while publishing",
    /// A crash comes while something is noted in a journal.
    CrashInJournal = "crash while noting",
    /// A download goes on with what an earlier one has left.
    Resumed = "resumed",
    /// A file stood under its name already, and was right.
    Stood = "file stood there",
    /// A file was somewhere else on the disk.
    Adopted = "file known",
    /// A file was remembered, and had changed since.
    KnownChanged = "known file changed",
    /// A file came as a copy of another one of its download.
    Twin = "equal files",
    /// An older version of a file had some of its bytes.
    Reused = "older version",
    /// A chunk of an older version has the hash of another one.
    Clash = "hashes clash",
    /// Writes that were not synced were lost in a crash.
    LostWrites = "unsynced writes lost",
    /// Writes were torn at block size in a crash.
    TornWrites = "writes torn",
    /// A host slept: its clock went on and nothing else did.
    Sleep = "suspend",
    /// The wall clock jumped.
    WallClock = "wall clock jumps",
    /// The driver's clock went back for a moment.
    ClockBack = "clock goes back",
    /// There was no room for a write.
    DiskFull = "disk full",
    /// There was room again.
    RoomAgain = "room again",
    /// A disk job failed.
    IoError = "I/O error",
    /// A read gave less than was asked for.
    ShortRead = "short read",
    /// Shared bytes changed by themselves.
    Rot = "bit rot",
    /// What a run has left to the next one changed by itself.
    StagedRot = "staged bytes rot",
    /// The disk was slow to write or sync.
    SlowDisk = "slow disk",
    /// A rename to a final name failed.
    RenameFails = "rename fails",
    /// A name was taken at the last moment.
    NameTaken = "name taken meanwhile",
    /// A look-up found nothing.
    DhtEmpty = "DHT empty",
    /// A look-up found addresses of the past.
    DhtStale = "DHT stale",
    /// A look-up found what somebody else put there.
    DhtHostile = "DHT hostile",
    /// No node of the DHT answered.
    DhtGone = "DHT gone",
    /// A link went over a connection that the other side had made.
    CalledBack = "called back",
    /// A link went over a hole that was punched.
    Punched = "hole punched",
    /// A receiver was served by another one.
    Seeder = "receiver that serves",
    /// The sharer was not to be had, and somebody else had the manifest.
    Deputy = "manifest of another than the sharer",
    /// Somebody who stood in for the sharer of a short code got a proof of its words, and refused it.
    StandInRefuses = "stand-in refuses a proof",
    /// The same, and said nothing.
    StandInIsSilent = "stand-in is silent",
    /// The same, and said that it was busy.
    StandInIsBusy = "stand-in is busy",
    /// The same, and said that it had no such share.
    StandInForgets = "stand-in forgets",
    /// The same, and dropped the link.
    StandInHangsUp = "stand-in hangs up",
    /// The same, and let one byte of an answer come after the other.
    StandInDrips = "stand-in drips",
    /// The same, and answered with what is no answer.
    StandInTalksRubbish = "stand-in talks rubbish",
    /// The same, and answered as if it knew the words.
    StandInGuesses = "stand-in guesses",
    /// Somebody stood in for the sharer and did not even answer the knock.
    StandInIsMute = "stand-in is mute",
    /// The user paused and went on.
    Pause = "user pauses",
    /// Content went while a limit was set on it.
    Limit = "limit",
    /// A limit was changed or lifted under which content had gone.
    LimitChanged = "limit changed",
    /// A transfer was given more or less than others.
    Preferred = "priority given",
    /// A share was paused and went on.
    SharePaused = "share paused",
    /// The user cancelled.
    Cancel = "user cancels",
    /// The user refused an offer.
    Decline = "user declines",
    /// The user took long over an offer.
    Dither = "user takes time",
    /// A shared file was changed.
    FileChanged = "file changed",
    /// A shared file was removed.
    FileRemoved = "file removed",
    /// A share was withdrawn.
    Withdrawn = "share withdrawn",
    /// A program was ended in order.
    Shutdown = "shut down",
    /// A short code was tried with wrong words.
    WrongWords = "wrong words",
    /// A short code was used by who had nothing else.
    ShortCode = "short code alone",
    /// A malicious sharer lied.
    Lie = "lying sharer",
    /// A malicious receiver attacked.
    Attack = "attacking receiver",
);

counted!(
    /// What must hold, always.
    Promise:
    /// A file that is published is just what was shared.
    Published = "published",
    /// Nothing that was not verified stands under a final name, nor goes through a pipe.
    Verified = "verified",
    /// What is done stays done, over crashes too.
    Kept = "kept",
    /// Nothing outside of the download's folder changes.
    Inside = "inside",
    /// What waits stays inside the limits, for each peer and in all.
    Bounded = "bounded",
    /// In no second goes more than a limit's second, and one request.
    Paced = "paced",
    /// Relays with limits carry no more circuits, and no more bytes in a time, than is allowed.
    Relays = "relays",
    /// `poll_output` ends, time goes on, no timeout lies in the past.
    Progress = "progress",
    /// No key seals two frames with one number.
    Nonces = "nonces",
    /// Nobody who is honest is blamed.
    Honest = "honest",
    /// Who lies or attacks is dropped after so much of it.
    Dropped = "dropped",
    /// Nothing is asked for twice at once.
    Once = "once",
    /// A short code's words are guessed wrong only so often, over all links and restarts.
    Guesses = "guesses",
    /// A short code's words are proved only so often, over all peers and restarts, but for proofs that succeed.
    Proofs = "proofs",
    /// Who does not know the secret gets no key and no byte.
    Strangers = "strangers",
    /// No secret goes where people or eavesdroppers can see it.
    Secrets = "secrets",
    /// Each command ends, once, and nothing follows its end.
    EndsOnce = "ends-once",
    /// Nothing is written after a cancel.
    Cancelled = "cancelled",
    /// Once everything is well again, what can complete does, in time.
    Completes = "completes",
    /// Bytes that are fetched again stay under a window for each fault.
    Frugal = "frugal",
    /// What a journal names is on the disk, whatever was lost.
    Noted = "noted",
    /// What came and what was here already make up what is there.
    Spared = "spared",
    /// A download that completes accounts for every file.
    Accounted = "accounted",
);

impl Promise {
    /// The promise that a panic's words name, if it was one that was broken.
    pub fn of(words: &str) -> Option<Self> {
        let name = words.strip_prefix('[')?.split(']').next()?;
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// How often each fault bit and each promise was looked at.
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
    /// How often a fault happened.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// How often a promise was looked at.
    pub fn promise(&self, promise: Promise) -> u64 {
        self.promises[promise as usize]
    }

    /// What was counted elsewhere comes on top.
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

/// What was counted on this thread since the last call.
pub fn take() -> Ledger {
    LEDGER.take()
}

/// A fault bit.
pub(crate) fn happened(fault: Fault) {
    LEDGER.with_borrow_mut(|ledger| ledger.faults[fault as usize] += 1);
}

/// A promise is looked at.
pub(crate) fn looked_at(promise: Promise) {
    LEDGER.with_borrow_mut(|ledger| ledger.promises[promise as usize] += 1);
}

/// Looks at a promise, and panics if it is broken.
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
