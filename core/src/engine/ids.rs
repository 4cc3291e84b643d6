//! Identifiers and small types used by the engine's parts and its driver: ids of links, shares and jobs, ranges of
//! files, paths, DHT keys, rate limits.

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
    /// One handover stream to one peer. Chosen by the transport; unique within a process.
    LinkId
);
id!(
    /// One attempt of the engine to reach a peer.
    DialId
);
id!(
    /// One lookup in the DHT.
    LookUpId
);
id!(
    /// One share that this engine offers. Chosen by the issuer of the command.
    ShareId
);
id!(
    /// One download of this engine. Chosen by the issuer of the command.
    DownloadId
);
id!(
    /// One receiver of one of this engine's shares, over any number of links.
    SessionId
);
id!(
    /// One disk job.
    JobId
);

/// How a link reaches its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Both ends are on the same machine.
    Loopback,
    /// Both ends are on the same local network.
    Lan,
    /// Over the internet, without a relay.
    Direct,
    /// Through a relay.
    Relayed,
}

/// The limits that a relay states for one circuit. Empty for a path without a relay, and for a relay without such
/// limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Allowance {
    /// Maximum number of bytes on a link before the relay ends it, both directions together. A relay that counts each
    /// direction separately would carry slightly more: the few bytes that go up.
    pub bytes: Option<u64>,
    /// Maximum lifetime of the circuit.
    pub time: Option<Duration>,
}

/// A DHT key under which peers find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Rendezvous point of peers that know a share's secret.
    Share(MeetingPoint),
    /// Rendezvous point, for one day, of peers that know a short code's number. Computing it takes a slow hash.
    Number {
        /// The public part of the code.
        number: u32,
        /// The date, as days since 1970 in UTC.
        day: u32,
    },
}

impl Place {
    /// The rendezvous point in the DHT. Slow for a number, on purpose: some 50 ms, and 32 MiB of memory.
    pub fn point(&self) -> MeetingPoint {
        match *self {
            Self::Share(point) => point,
            Self::Number { number, day } => short::meeting_point(number, day),
        }
    }
}

/// The result of an announcement, as seen by the transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AnnounceReport {
    /// Number of addresses in the record.
    pub addresses: usize,
    /// Number of DHT nodes that were given the record.
    pub nodes: usize,
    /// Number of nodes that returned the record, with an address in it, when asked afterwards.
    pub found_at: usize,
}

/// What to do with a file whose name is taken at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Keep the existing file and do not fetch the new one.
    Skip,
    /// Keep both; the new file gets a free name.
    Rename,
    /// Replace the existing file once the new one is complete and verified.
    Overwrite,
}

/// A range of one entry's bytes: whole leaves of one group, except at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// Index of the entry in the manifest.
    #[serde(rename = "e")]
    pub entry: u32,
    /// Byte offset in the entry: a multiple of [`LEAF`](crate::limits::LEAF).
    #[serde(rename = "o")]
    pub offset: u64,
    /// Length in bytes, at most [`GROUP`](crate::limits::GROUP).
    #[serde(rename = "l")]
    pub len: u32,
}

/// One transfer of this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferId {
    /// What one share sends, to all its receivers.
    Share(ShareId),
    /// What one download fetches.
    Download(DownloadId),
}

/// What a rate limit applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limited {
    /// Everything sent.
    Up,
    /// Everything fetched.
    Down,
    /// What one share sends, or one download fetches.
    One(TransferId),
}

/// The weight of a transfer when it competes with others for a shared rate limit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A quarter of the normal weight.
    Low,
    /// The normal weight.
    #[default]
    Normal,
    /// Four times the normal weight.
    High,
}
