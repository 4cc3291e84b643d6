//! A plan: everything that a run is made of, as data.
//!
//! Hosts and the ways to them, shares, what users order, who is malicious and how, and what goes wrong when. The same
//! plan gives the same run, to the byte. A plan is [drawn](Plan::draw) from a seed or [decoded](Plan::decode) from a
//! fuzzer's bytes, and can be [saved, read](file), and [shrunk](shrink).
//!
//! Things are named by their place in the plan's lists. Times are milliseconds since the run began.

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

/// What plans of this simulator say of themselves. Another number is another simulator's.
pub const VERSION: u32 = 1;

/// Everything that a run is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// What the run draws while it goes on: sizes of pieces, jitter, keys.
    pub seed: u64,
    /// When everything heals.
    pub heals_at: u32,
    /// What engines may let grow.
    pub limits: LimitsPlan,
    /// Hosts with engines.
    pub hosts: Vec<HostPlan>,
    /// Relays.
    #[serde(default)]
    pub relays: Vec<RelayPlan>,
    /// What is shared, and by whom.
    pub shares: Vec<SharePlan>,
    /// What users order.
    pub orders: Vec<OrderPlan>,
    /// Malicious sharers.
    #[serde(default)]
    pub liars: Vec<LiarPlan>,
    /// Malicious receivers.
    #[serde(default)]
    pub attackers: Vec<AttackerPlan>,
    /// Peers that act as if they had each short code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stand_ins: Vec<StandInPlan>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<FaultPlan>,
}

/// Limits of all engines, the rest is as in [`small_limits`](crate::small_limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsPlan {
    /// Groups that a download asks for ahead.
    pub window: u8,
    /// Groups that a link buffers.
    pub send_buffer: u8,
    /// Requests that wait at once.
    pub requests: u8,
    /// Segments in a request.
    pub segments: u8,
    /// Disk jobs at once.
    pub disk_jobs: u8,
    /// Seconds that a download looks for its peer.
    pub search: u8,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPlan {
    /// Its local network.
    #[serde(default)]
    pub lan: u8,
    /// The NAT that it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatPlan>,
    /// How it is reached.
    pub ways: Vec<WayPlan>,
    /// Milliseconds after a link to it over a relay until a hole is punched for a straight one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub punching: Option<u16>,
    /// Microseconds of a disk job.
    pub disk: u32,
    /// It finds files again that it has shared or fetched.
    #[serde(default)]
    pub remembers: bool,
    /// So many chunks of older versions are not what they are taken for.
    #[serde(default)]
    pub clashes: u8,
}

/// A NAT, in the words of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatPlan {
    /// What the outer port depends on.
    pub mapping: Depends,
    /// What the right to come in depends on.
    pub filtering: Depends,
    /// Seconds that an idle mapping lives.
    pub expiry: u16,
}

/// A way to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WayPlan {
    /// What kind of path it is.
    pub path: PathPlan,
    /// It is dialled as QUIC, a little after TCP.
    #[serde(default)]
    pub quic: bool,
    /// Milliseconds in one direction.
    #[serde(default)]
    pub delay: u16,
    /// Up to so many milliseconds more.
    #[serde(default)]
    pub jitter: u16,
    /// Bytes a second; 0 is as fast as they come.
    #[serde(default)]
    pub rate: u32,
    /// Bytes on their way at once.
    pub window: u32,
    /// Bytes are cut into pieces of up to so many; 0 leaves them whole.
    #[serde(default)]
    pub pieces: u16,
    /// Milliseconds that a dial takes longer.
    #[serde(default)]
    pub setup: u16,
}

/// A kind of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathPlan {
    /// On the local network.
    Lan,
    /// Over the internet.
    Direct,
    /// Through the relay with this number.
    Relayed(u8),
}

/// A relay; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayPlan {
    /// Bytes that a circuit carries.
    #[serde(default)]
    pub bytes: u32,
    /// That is so in each direction alone.
    #[serde(default)]
    pub each_way: bool,
    /// It does not say so.
    #[serde(default)]
    pub silent: bool,
    /// Circuits that one host may have.
    #[serde(default)]
    pub circuits: u8,
    /// Milliseconds that a circuit stands.
    #[serde(default)]
    pub time: u32,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharePlan {
    /// The host that shares.
    pub host: u8,
    /// When.
    #[serde(default)]
    pub at: u32,
    /// Receivers after which it ends; 0 is any number.
    #[serde(default)]
    pub uses: u8,
    /// It is a pipe of so many bytes, and has no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipe: Option<u32>,
    /// Bytes of each file.
    #[serde(default)]
    pub files: Vec<u32>,
    /// It also has a folder and a symlink.
    #[serde(default)]
    pub extras: bool,
    /// It has a short code.
    #[serde(default)]
    pub short: bool,
    /// Every second file is the one before it again.
    #[serde(default)]
    pub twins: bool,
}

/// What a user orders: a download, and how they deal with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a choice of its own that a shrinker takes back"
)]
pub struct OrderPlan {
    /// The host that receives.
    pub host: u8,
    /// From a share, or from a liar.
    pub from: FromPlan,
    /// When.
    pub at: u32,
    /// Addresses come from the DHT, not from the ticket.
    #[serde(default)]
    pub dht: bool,
    /// With the share's short code, if it has one.
    #[serde(default)]
    pub short: bool,
    /// Into a pipe.
    #[serde(default)]
    pub to_pipe: bool,
    /// Only every other entry is wanted.
    #[serde(default)]
    pub some: bool,
    /// What happens where a name is taken.
    #[serde(default)]
    pub conflict: ConflictPlan,
    /// Files that are in the folder before: one of each share's names, with other bytes.
    #[serde(default)]
    pub taken: bool,
    /// A symlink stands in the folder where the share has a folder.
    #[serde(default)]
    pub planted: bool,
    /// What is here is served to others.
    #[serde(default)]
    pub seeds: bool,
    /// What stands in the folder before of every other file.
    #[serde(default)]
    pub here: HerePlan,
    /// What the user does.
    #[serde(default)]
    pub user: UserPlan,
}

/// Whom an order is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromPlan {
    /// A share.
    Share(u8),
    /// A liar.
    Liar(u8),
}

/// What stands in a folder before of the files that are fetched into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HerePlan {
    /// Nothing.
    #[default]
    Nothing,
    /// The very files.
    Same,
    /// Older versions of them.
    Older,
}

/// What happens where a name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictPlan {
    /// Both are kept.
    #[default]
    Rename,
    /// The new one is left out.
    Skip,
    /// The old one goes.
    Overwrite,
}

/// What a user does with a download; times are milliseconds after it was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserPlan {
    /// Accepts and waits.
    #[default]
    Patient,
    /// Accepts after so long.
    Dithers(u32),
    /// Refuses.
    Declines,
    /// Cancels.
    Cancels(u32),
    /// Pauses, and goes on so much later.
    Pauses(u32, u32),
}

/// A malicious sharer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiarPlan {
    /// What it says.
    pub lie: Lie,
    /// Messages that it leaves alone at first.
    #[serde(default)]
    pub truths: u16,
    /// Bytes of each file.
    pub files: Vec<u32>,
}

/// A malicious receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackerPlan {
    /// What it does.
    pub attack: Attack,
    /// To which share.
    pub share: u8,
    /// When first.
    pub at: u32,
    /// How often, a second apart.
    pub times: u8,
}

/// Somebody who stands in for whoever has a short code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandInPlan {
    /// What it answers to a proof of the words.
    pub answers: StandIn,
    /// The local network that it is on; without one, a node of the DHT names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan: Option<u8>,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// When.
    pub at: u32,
    /// What.
    pub what: Trouble,
}

/// What goes wrong. `host`, `share` and `relay` are numbers in the plan's lists; `time` is how many milliseconds it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the sentence of each tells of its fields")]
pub enum Trouble {
    /// A host's links stop, and go on.
    Stall { host: u8, time: u32 },
    /// A host's links stop for moments, again and again.
    Loss { host: u8, time: u32 },
    /// A host's links are reset.
    Reset { host: u8 },
    /// A host's links die in silence.
    Silence { host: u8 },
    /// Hosts with even numbers and hosts with odd ones don't reach each other.
    Split { time: u32, one_way: bool },
    /// A host reaches nobody.
    Isolate { host: u8, time: u32 },
    /// A host's NAT forgets its mappings.
    Rebind { host: u8 },
    /// A host moves to another network.
    Roam { host: u8 },
    /// A relay is gone.
    RelayGone { relay: u8, time: u32 },
    /// A relay takes no circuits.
    RelayRefuses { relay: u8, time: u32 },
    /// A host loses power, and has it again.
    Crash { host: u8, time: u32 },
    /// A host's program is ended in order, and started again.
    Shutdown { host: u8, time: u32 },
    /// A host sleeps.
    Sleep { host: u8, time: u32 },
    /// A host's wall clock jumps by so many seconds.
    WallClock { host: u8, seconds: i32 },
    /// A host's driver takes it for earlier, for so many inputs.
    ClockBack { host: u8, inputs: u8, by: u16 },
    /// A host's disk has room for so many more bytes.
    DiskFull { host: u8, room: u32, time: u32 },
    /// The next job of a kind fails on a host's disk.
    IoError { host: u8, job: JobPlan },
    /// The next read on a host's disk is short.
    ShortRead { host: u8 },
    /// A bit of a share's file turns over.
    Rot { share: u8, file: u8, byte: u32 },
    /// A bit of what an order's downloads have left to the next one turns over, once there is one.
    RotStaged { order: u8, byte: u32 },
    /// A host's disk takes so many microseconds for each job.
    SlowDisk { host: u8, micros: u32, time: u32 },
    /// So many renames fail on a host.
    RenameFails { host: u8, times: u8 },
    /// Files that a host remembers are changed.
    ChangeKnown { host: u8 },
    /// Somebody takes a name in an order's folder.
    NameTaken { order: u8, file: u8 },
    /// The DHT does something else with look-ups.
    Dht { mood: DhtMood, time: u32 },
    /// A share's file is changed.
    ChangeFile { share: u8, file: u8 },
    /// A share's file is removed.
    RemoveFile { share: u8, file: u8 },
    /// A share is withdrawn.
    Withdraw { share: u8 },
    /// A host's user limits all that is sent or fetched, in bytes a second; 0 takes the limit away.
    Limit { host: u8, up: bool, rate: u32 },
    /// A sharer's user limits a share.
    LimitShare { share: u8, rate: u32 },
    /// A receiver's user limits an order's download.
    LimitOrder { order: u8, rate: u32 },
    /// A sharer's user gives a share more or less than others.
    PreferShare { share: u8, priority: Priority },
    /// A receiver's user gives an order's download more or less than others.
    PreferOrder { order: u8, priority: Priority },
    /// A share is paused, and goes on.
    PauseShare { share: u8, time: u32 },
    /// A host's disk gives files their names before they are on it. Never drawn: what the canary is made of.
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
    /// Hashing ahead.
    Hash,
    /// Looking at a download's folder.
    Inspect,
    /// Making a staging folder.
    Stage,
    /// Writing.
    Write,
    /// Publishing.
    Publish,
    /// Finishing.
    Finish,
}

impl Trouble {
    /// The host that it names.
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

    /// The share that it names.
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

    /// The order that it names.
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
