//! The results of the lab. Saved as JSON; times are in milliseconds.

use serde::{Deserialize, Serialize};

use crate::foreign::{Selection, Software};
use crate::probe::Findings;

/// A matrix: every kind of NAT against every other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// What was measured, and on what machine.
    pub about: About,
    /// The findings for each kind of NAT, in the order of the table.
    pub kinds: Vec<KindResult>,
    /// One cell for each pair of kinds and each choice of transports.
    pub cells: Vec<Cell>,
}

/// What was measured, and on what machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// When the measurement began, such as `2026-11-25 10:30 UTC`.
    pub date: String,
    /// The commit, with `+` if the work tree had changes.
    pub commit: String,
    /// The machine: kernel, cores, memory.
    pub machine: String,
    /// The conditions of links, as text: delay, rate, loss.
    pub conditions: String,
    /// Number of bytes that each run transferred.
    pub bytes: u64,
    /// The nodes, if they were foreign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<World>,
}

/// The foreign nodes that peers bootstrapped from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// The selection.
    pub selection: Selection,
    /// Its nodes, in the order in which their addresses were given to peers.
    pub nodes: Vec<Software>,
    /// Which of their addresses were given to peers.
    pub addresses: Carrier,
    /// The software, with versions.
    pub versions: Vec<String>,
}

/// What the probe found for one kind of NAT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindResult {
    /// The short name of the kind.
    pub kind: String,
    /// A one-line description.
    pub about: String,
    /// Findings over IPv4. They are the same on both sides; otherwise the measurement would have failed.
    pub v4: Option<Findings>,
    /// Findings over IPv6.
    pub v6: Option<Findings>,
}

/// The transports that peers may connect over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// TCP only.
    Tcp,
    /// QUIC only.
    Quic,
    /// Both, as by default.
    Both,
}

/// The best path that theory allows a pair, without port prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// A direct path.
    Direct,
    /// A relay.
    Relay,
}

/// The runs of one pair with one choice of transports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The two kinds, in the order of the table, or the same name twice if both peers share one topology.
    pub kinds: [String; 2],
    /// The transports that peers were allowed to use.
    pub carrier: Carrier,
    /// The best path that theory allows.
    pub best: Best,
    /// The runs.
    pub runs: Vec<Run>,
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which of the two kinds the sharer was behind: 0 or 1.
    pub sharer: u8,
    /// True if the file arrived complete.
    pub complete: bool,
    /// Time from the sharer's start to its short code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
    /// Time from the sharer's start until it was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<u64>,
    /// Time from the receiver's start to its first link.
    pub connected: Option<u64>,
    /// True if the first link was relayed.
    pub relayed_first: bool,
    /// Time from the receiver's start to its first direct link.
    pub direct: Option<u64>,
    /// Time from the first relayed link to the first direct one.
    pub upgrade: Option<u64>,
    /// Time from the receiver's start until it reported the first bytes of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<u64>,
    /// The relays of the receiver's links, by the names of their software.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<String>,
    /// Time from the receiver's start to its end.
    pub took: u64,
    /// Why the run did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
