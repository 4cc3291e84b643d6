//! A plan: the complete description of a run, as data.
//!
//! Contains hosts and their addresses, shares, users' orders, malicious peers and scheduled faults. The same plan gives
//! the same run, to the byte. A plan is [drawn](Plan::draw) from a seed or [decoded](Plan::decode) from a fuzzer's
//! bytes, and can be [saved, read](file), and [shrunk](shrink).
//!
//! Items refer to each other by their index in the plan's lists. Times are milliseconds since the start of the run.

mod draw;
mod entropy;
pub mod file;
mod limits;
pub mod shrink;
mod validate;

use serde::{Deserialize, Serialize};

pub use crate::puppet::{Attack, Lie, StandIn};
pub use crate::world::{Depends, DhtMood};
pub use handover_core::engine::Priority;

/// Format version of plans. Plans with another version are rejected.
pub const VERSION: u32 = 1;

/// The complete description of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Always [`VERSION`].
    pub version: u32,
    /// Seed for what is drawn during the run: sizes of pieces, jitter, keys.
    pub seed: u64,
    /// Time at which all faults end.
    pub heals_at: u32,
    /// Limits of the engines.
    pub limits: LimitsPlan,
    /// Hosts, each with an engine.
    pub hosts: Vec<HostPlan>,
    /// Relays.
    #[serde(default)]
    pub relays: Vec<RelayPlan>,
    /// Shares.
    pub shares: Vec<SharePlan>,
    /// Downloads ordered by users.
    pub orders: Vec<OrderPlan>,
    /// Malicious sharers.
    #[serde(default)]
    pub liars: Vec<LiarPlan>,
    /// Malicious receivers.
    #[serde(default)]
    pub attackers: Vec<AttackerPlan>,
    /// Impostors that act as if they had each short code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stand_ins: Vec<StandInPlan>,
    /// Faults.
    #[serde(default)]
    pub faults: Vec<FaultPlan>,
}

/// Limits of all engines. The others are as in [`small_limits`](crate::small_limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsPlan {
    /// Groups that a download requests ahead.
    pub window: u8,
    /// Groups that a link buffers.
    pub send_buffer: u8,
    /// Maximum number of outstanding requests.
    pub requests: u8,
    /// Maximum number of segments in a request.
    pub segments: u8,
    /// Maximum number of concurrent disk jobs.
    pub disk_jobs: u8,
    /// Seconds that a download searches for its peer.
    pub search: u8,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPlan {
    /// Number of its local network.
    #[serde(default)]
    pub lan: u8,
    /// The NAT in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatPlan>,
    /// Its addresses.
    pub ways: Vec<WayPlan>,
    /// Milliseconds from a relayed link to it until a hole is punched for a direct one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub punching: Option<u16>,
    /// Duration of a disk job, in microseconds.
    pub disk: u32,
    /// True if it finds files again that it has shared or fetched.
    #[serde(default)]
    pub remembers: bool,
    /// Number of chunks of older versions whose hashes collide with other chunks.
    #[serde(default)]
    pub clashes: u8,
}

/// A NAT, in the terms of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatPlan {
    /// Mapping behaviour.
    pub mapping: Depends,
    /// Filtering behaviour.
    pub filtering: Depends,
    /// Seconds after which an idle mapping expires.
    pub expiry: u16,
}

/// An address of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WayPlan {
    /// The kind of path.
    pub path: PathPlan,
    /// True for a QUIC address, which is dialled shortly after TCP.
    #[serde(default)]
    pub quic: bool,
    /// Delay in one direction, in milliseconds.
    #[serde(default)]
    pub delay: u16,
    /// Maximum additional delay, in milliseconds.
    #[serde(default)]
    pub jitter: u16,
    /// Bandwidth in bytes per second; 0 for unlimited.
    #[serde(default)]
    pub rate: u32,
    /// Maximum number of bytes in flight.
    pub window: u32,
    /// Maximum size of the pieces that bytes are cut into; 0 leaves them whole.
    #[serde(default)]
    pub pieces: u16,
    /// Additional time that a dial takes, in milliseconds.
    #[serde(default)]
    pub setup: u16,
}

/// A kind of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathPlan {
    /// Over the local network.
    Lan,
    /// Directly over the internet.
    Direct,
    /// Through the relay with this number.
    Relayed(u8),
}

/// A relay. 0 stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayPlan {
    /// Byte limit per circuit.
    #[serde(default)]
    pub bytes: u32,
    /// True if the byte limit applies to each direction separately.
    #[serde(default)]
    pub each_way: bool,
    /// True if the relay does not state its limits.
    #[serde(default)]
    pub silent: bool,
    /// Maximum number of circuits per host.
    #[serde(default)]
    pub circuits: u8,
    /// Maximum lifetime of a circuit, in milliseconds.
    #[serde(default)]
    pub time: u32,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharePlan {
    /// The host that shares.
    pub host: u8,
    /// Time at which it is created.
    #[serde(default)]
    pub at: u32,
    /// Number of receivers after which it ends; 0 for any number.
    #[serde(default)]
    pub uses: u8,
    /// Size of the pipe in bytes, for a share that is a pipe and has no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipe: Option<u32>,
    /// Size of each file, in bytes.
    #[serde(default)]
    pub files: Vec<u32>,
    /// True if it also has a folder and a symlink.
    #[serde(default)]
    pub extras: bool,
    /// True if it has a short code.
    #[serde(default)]
    pub short: bool,
    /// True if every second file duplicates the one before it.
    #[serde(default)]
    pub twins: bool,
}

/// An order: a download by a user, and how they deal with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a choice of its own that a shrinker takes back"
)]
pub struct OrderPlan {
    /// The host that receives.
    pub host: u8,
    /// What is fetched: from a share or from a malicious sharer.
    pub from: FromPlan,
    /// Time at which it is ordered.
    pub at: u32,
    /// True if addresses come from the DHT instead of the ticket.
    #[serde(default)]
    pub dht: bool,
    /// True if the share's short code is used, if it has one.
    #[serde(default)]
    pub short: bool,
    /// True for a download into a pipe.
    #[serde(default)]
    pub to_pipe: bool,
    /// True if only every other entry is selected.
    #[serde(default)]
    pub some: bool,
    /// What happens if a name is taken.
    #[serde(default)]
    pub conflict: ConflictPlan,
    /// True if the folder initially has a file with the name of one of the share's, and other content.
    #[serde(default)]
    pub taken: bool,
    /// True if the folder initially has a symlink where the share has a folder.
    #[serde(default)]
    pub planted: bool,
    /// True if the receiver also serves what it has.
    #[serde(default)]
    pub seeds: bool,
    /// What the folder initially holds for every other file.
    #[serde(default)]
    pub here: HerePlan,
    /// What the user does.
    #[serde(default)]
    pub user: UserPlan,
}

/// The source of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromPlan {
    /// The share with this index.
    Share(u8),
    /// The malicious sharer with this index.
    Liar(u8),
}

/// What a folder initially holds of the files that are fetched into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HerePlan {
    /// Nothing.
    #[default]
    Nothing,
    /// The same files.
    Same,
    /// Older versions of them.
    Older,
}

/// What happens if a name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictPlan {
    /// Both files are kept.
    #[default]
    Rename,
    /// The new file is skipped.
    Skip,
    /// The old file is replaced.
    Overwrite,
}

/// What a user does with a download. Times are milliseconds after the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserPlan {
    /// Accepts and waits.
    #[default]
    Patient,
    /// Accepts after this time.
    Dithers(u32),
    /// Declines.
    Declines,
    /// Cancels after this time.
    Cancels(u32),
    /// Pauses after the first time, and resumes after the second.
    Pauses(u32, u32),
}

/// A malicious sharer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiarPlan {
    /// How it lies.
    pub lie: Lie,
    /// Number of truthful messages before it starts to lie.
    #[serde(default)]
    pub truths: u16,
    /// Size of each file, in bytes.
    pub files: Vec<u32>,
}

/// A malicious receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackerPlan {
    /// How it attacks.
    pub attack: Attack,
    /// The share that it attacks.
    pub share: u8,
    /// Time of the first attack.
    pub at: u32,
    /// Number of attacks, one second apart.
    pub times: u8,
}

/// An impostor of the sharers of short codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandInPlan {
    /// How it answers a password proof.
    pub answers: StandIn,
    /// Number of its local network; without one, a DHT node returns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan: Option<u8>,
}

/// A scheduled fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Time at which it starts.
    pub at: u32,
    /// What happens.
    pub what: Trouble,
}

/// A fault. `host`, `share` and `relay` are indices into the plan's lists; `time` is the duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the sentence of each tells of its fields")]
pub enum Trouble {
    /// A host's links stall, and resume.
    Stall { host: u8, time: u32 },
    /// A host's links stall briefly, again and again.
    Loss { host: u8, time: u32 },
    /// A host's links are reset.
    Reset { host: u8 },
    /// A host's links go silent.
    Silence { host: u8 },
    /// Hosts with even and hosts with odd indices can't reach each other.
    Split { time: u32, one_way: bool },
    /// A host can reach no other.
    Isolate { host: u8, time: u32 },
    /// A host's NAT drops its mappings.
    Rebind { host: u8 },
    /// A host moves to another network.
    Roam { host: u8 },
    /// A relay is gone.
    RelayGone { relay: u8, time: u32 },
    /// A relay refuses circuits.
    RelayRefuses { relay: u8, time: u32 },
    /// A host loses power, and is restarted.
    Crash { host: u8, time: u32 },
    /// A host's program is shut down cleanly, and restarted.
    Shutdown { host: u8, time: u32 },
    /// A host is suspended.
    Sleep { host: u8, time: u32 },
    /// A host's wall clock jumps by this many seconds.
    WallClock { host: u8, seconds: i32 },
    /// A host's driver reports a time that is too early, for this many inputs.
    ClockBack { host: u8, inputs: u8, by: u16 },
    /// A host's disk has room for this many more bytes.
    DiskFull { host: u8, room: u32, time: u32 },
    /// The next job of this kind fails on a host's disk.
    IoError { host: u8, job: JobPlan },
    /// The next read on a host's disk is short.
    ShortRead { host: u8 },
    /// A bit of a share's file flips.
    Rot { share: u8, file: u8, byte: u32 },
    /// A bit of what an order's downloads left for the next one flips, as soon as there is something.
    RotStaged { order: u8, byte: u32 },
    /// Each job of a host's disk takes this many microseconds.
    SlowDisk { host: u8, micros: u32, time: u32 },
    /// This many renames fail on a host.
    RenameFails { host: u8, times: u8 },
    /// Files that a host remembers are changed.
    ChangeKnown { host: u8 },
    /// Another program takes a name in an order's folder.
    NameTaken { order: u8, file: u8 },
    /// The DHT answers lookups differently.
    Dht { mood: DhtMood, time: u32 },
    /// A share's file is changed.
    ChangeFile { share: u8, file: u8 },
    /// A share's file is removed.
    RemoveFile { share: u8, file: u8 },
    /// A share is withdrawn.
    Withdraw { share: u8 },
    /// A host's user limits everything that is sent or fetched, in bytes per second; 0 removes the limit.
    Limit { host: u8, up: bool, rate: u32 },
    /// A sharer's user limits a share.
    LimitShare { share: u8, rate: u32 },
    /// A receiver's user limits an order's download.
    LimitOrder { order: u8, rate: u32 },
    /// A sharer's user changes the priority of a share.
    PreferShare { share: u8, priority: Priority },
    /// A receiver's user changes the priority of an order's download.
    PreferOrder { order: u8, priority: Priority },
    /// A share is paused, and resumed.
    PauseShare { share: u8, time: u32 },
    /// A host's disk publishes files before they are synced. Never drawn: used by the canary.
    ForgetsToSync { host: u8 },
}

/// A kind of disk job that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPlan {
    /// Listing a share.
    Scan,
    /// Reading for a receiver.
    Read,
    /// Hashing in advance.
    Hash,
    /// Inspecting a download's folder.
    Inspect,
    /// Creating a staging folder.
    Stage,
    /// Writing.
    Write,
    /// Publishing.
    Publish,
    /// Finishing.
    Finish,
}

impl Trouble {
    /// The host that the fault names.
    pub(crate) fn host_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::Stall { host, .. }
            | Self::Loss { host, .. }
            | Self::Reset { host }
            | Self::Silence { host }
            | Self::Isolate { host, .. }
            | Self::Rebind { host }
            | Self::Roam { host }
            | Self::Crash { host, .. }
            | Self::Shutdown { host, .. }
            | Self::Sleep { host, .. }
            | Self::WallClock { host, .. }
            | Self::ClockBack { host, .. }
            | Self::DiskFull { host, .. }
            | Self::IoError { host, .. }
            | Self::ShortRead { host }
            | Self::SlowDisk { host, .. }
            | Self::RenameFails { host, .. }
            | Self::ChangeKnown { host }
            | Self::Limit { host, .. }
            | Self::ForgetsToSync { host } => Some(host),
            _ => None,
        }
    }

    /// The share that the fault names.
    pub(crate) fn share_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::Rot { share, .. }
            | Self::ChangeFile { share, .. }
            | Self::RemoveFile { share, .. }
            | Self::LimitShare { share, .. }
            | Self::PreferShare { share, .. }
            | Self::PauseShare { share, .. }
            | Self::Withdraw { share } => Some(share),
            _ => None,
        }
    }

    /// The order that the fault names.
    pub(crate) fn order_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::NameTaken { order, .. }
            | Self::RotStaged { order, .. }
            | Self::LimitOrder { order, .. }
            | Self::PreferOrder { order, .. } => Some(order),
            _ => None,
        }
    }
}
