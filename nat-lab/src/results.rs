//! What runs of the lab amount to. Saved as JSON; times are milliseconds.

use serde::{Deserialize, Serialize};

use crate::foreign::{Selection, Software};
use crate::probe::Findings;

/// A matrix: every kind of NAT against every other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// What was measured, and on what.
    pub about: About,
    /// What each kind of NAT was found to be, in the order of the table.
    pub kinds: Vec<KindResult>,
    /// One cell for each pair of kinds and each choice of transports.
    pub cells: Vec<Cell>,
}

/// What was measured, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// When it began, such as `2026-11-25 10:30 UTC`.
    pub date: String,
    /// The commit, with `+` if the work tree had changes.
    pub commit: String,
    /// The machine: kernel, cores, memory.
    pub machine: String,
    /// What links were like, in words: delay, rate, loss.
    pub conditions: String,
    /// How many bytes each run moved.
    pub bytes: u64,
    /// The nodes, if they were foreign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<World>,
}

/// The foreign nodes that peers began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// Which selection.
    pub selection: Selection,
    /// Its nodes, in the order in which they were named to peers.
    pub nodes: Vec<Software>,
    /// Which of their addresses peers were told.
    pub addresses: Carrier,
    /// What the software is, with versions.
    pub versions: Vec<String>,
}

/// What a kind of NAT was found to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindResult {
    /// Its short name.
    pub kind: String,
    /// What it is, in a line.
    pub about: String,
    /// What the probe found over IPv4, from each side's gateway; equal for both, or the run had ended.
    pub v4: Option<Findings>,
    /// What it found over IPv6.
    pub v6: Option<Findings>,
}

/// What peers were allowed to connect over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// TCP alone.
    Tcp,
    /// QUIC alone.
    Quic,
    /// Both, as by default.
    Both,
}

/// The best that theory allows a pair, without guessing ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// A direct path.
    Direct,
    /// A relay.
    Relay,
}

/// Runs of one pair with one choice of transports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The two kinds, in the order of the table; or one name twice where both peers share one topology.
    pub kinds: [String; 2],
    /// What they were allowed to connect over.
    pub carrier: Carrier,
    /// What theory allows.
    pub best: Best,
    /// The runs.
    pub runs: Vec<Run>,
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which of the two kinds the sharer was behind: 0 or 1.
    pub sharer: u8,
    /// The file arrived whole.
    pub complete: bool,
    /// The sharer began until it told its short code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
    /// The sharer began until it was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<u64>,
    /// The receiver began until its first link stood.
    pub connected: Option<u64>,
    /// The first link went over a relay.
    pub relayed_first: bool,
    /// The receiver began until a direct link stood.
    pub direct: Option<u64>,
    /// The relayed link stood until the direct one did.
    pub upgrade: Option<u64>,
    /// The receiver began until it told that some of the file is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<u64>,
    /// Nodes that the receiver's links went through, by the names of their software.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<String>,
    /// The receiver began until it ended.
    pub took: u64,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
