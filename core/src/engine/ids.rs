//! What the engine's parts and its driver call things: numbers of links, shares and jobs, ranges of files, paths, places in
//! the DHT, what limits are on.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::code::short;
use crate::secret::MeetingPoint;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// One connection to one peer. The transport picks it; no two links of a process ever share one.
    LinkId
);
id!(
    /// One attempt of the engine to reach a peer.
    DialId
);
id!(
    /// One look-up in the DHT.
    LookUpId
);
id!(
    /// One share that this engine offers. Whoever gives the command picks it.
    ShareId
);
id!(
    /// One download that this engine makes. Whoever gives the command picks it.
    DownloadId
);
id!(
    /// One receiver at one of our shares, over however many links.
    SessionId
);
id!(
    /// One piece of disk work.
    JobId
);

/// How a link reaches its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Both ends are on one machine.
    Loopback,
    /// Both ends are on one local network.
    Lan,
    /// Straight over the internet.
    Direct,
    /// Through a relay.
    Relayed,
}

/// What a relay lets one circuit carry, by its own word. Nothing is stated of a path without a relay, nor by a relay that
/// has no such limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Allowance {
    /// Bytes that a link may carry before the relay ends it. Both directions count together: where a relay counts each
    /// alone, that is less than it would carry, by the few bytes that go up.
    pub bytes: Option<u64>,
    /// How long it may stand.
    pub time: Option<Duration>,
}

/// A place in the DHT where peers find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Where those meet who know a share's secret.
    Share(MeetingPoint),
    /// Where those meet on one day who know a short code's number. Which point that is takes a slow hash to tell.
    Number {
        /// The public part of the code.
        number: u32,
        /// The date, as days since 1970 in UTC.
        day: u32,
    },
}

impl Place {
    /// The point in the DHT. Slow for a number, on purpose: some 50 ms, and 32 MiB of memory.
    pub fn point(&self) -> MeetingPoint {
        match *self {
            Self::Share(point) => point,
            Self::Number { number, day } => short::meeting_point(number, day),
        }
    }
}

/// What an announcement came to, as the transport saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AnnounceReport {
    /// Addresses that the record had.
    pub addresses: usize,
    /// Nodes of the DHT that were given the record.
    pub nodes: usize,
    /// Nodes that told of the record, with an address in it, when they were asked afterwards.
    pub found_at: usize,
}

/// What to do with a file whose name is taken at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Leave the existing file, do not fetch the new one.
    Skip,
    /// Keep both; the new one gets a free name.
    Rename,
    /// Replace the existing file when the new one is whole and checked.
    Overwrite,
}

/// A range of one entry's bytes: whole leaves of one group, but for the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// Index of the entry in the manifest.
    #[serde(rename = "e")]
    pub entry: u32,
    /// Byte offset in the entry: a multiple of [`LEAF`](crate::limits::LEAF).
    #[serde(rename = "o")]
    pub offset: u64,
    /// Bytes, at the most [`GROUP`](crate::limits::GROUP).
    #[serde(rename = "l")]
    pub len: u32,
}

/// One of our transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferId {
    /// What one share sends, to all its receivers.
    Share(ShareId),
    /// What one download fetches.
    Download(DownloadId),
}

/// What a limit is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limited {
    /// All that is sent.
    Up,
    /// All that is fetched.
    Down,
    /// What one share sends, or one download fetches.
    One(TransferId),
}

/// How much of what all have in common a transfer gets, beside others that want some too.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A quarter of what others get.
    Low,
    /// As much as others.
    #[default]
    Normal,
    /// Four times as much.
    High,
}
