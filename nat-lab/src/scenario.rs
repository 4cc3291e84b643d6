//! One transfer on one network, described in a file, to reproduce a connectivity bug.

use std::time::Duration;

use serde::Deserialize;

use crate::foreign::Selection;
use crate::ground::{GroundError, World};
use crate::results::Carrier;
use crate::topology::Topology;
use crate::transfer::Transfer;

/// The file of a scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in one sentence.
    pub about: String,
    /// The network.
    #[serde(flatten)]
    pub topology: Topology,
    /// The nodes on the internet and their limits.
    #[serde(default)]
    pub nodes: Nodes,
    /// The transfer.
    pub transfer: Planned,
    /// Hosts that move to another network during the transfer.
    #[serde(default)]
    pub moves: Vec<Move>,
    /// The expected result.
    #[serde(default)]
    pub expect: Expect,
}

/// The nodes, and the limits of each circuit. A limit that is not given is the default of `handover node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Foreign nodes instead of handover's own. Their software has its own limits.
    pub foreign: Option<Selection>,
    /// Maximum data of a circuit in both directions together, in KiB.
    pub circuit_kib: Option<u64>,
    /// Maximum duration of a circuit, in seconds.
    pub circuit_seconds: Option<u64>,
}

impl Nodes {
    /// Replaces the nodes by foreign ones, or by handover's own.
    pub fn in_world(&mut self, foreign: Option<Selection>) {
        self.foreign = foreign;
    }

    /// Returns the nodes.
    ///
    /// # Errors
    ///
    /// They are foreign and not installed.
    pub fn world(&self) -> Result<World, GroundError> {
        match self.foreign {
            Some(selection) => World::foreign(selection),
            None => Ok(World::Own(self.options())),
        }
    }

    /// Returns the options for `handover node`.
    pub fn options(&self) -> Vec<String> {
        let all = [
            ("--circuit-kib", self.circuit_kib),
            ("--circuit-seconds", self.circuit_seconds),
        ];
        let named = all
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let words = named.flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
        words.collect()
    }
}

/// A transfer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// The sharer's host.
    pub from: String,
    /// The receiver's host.
    pub to: String,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// The transports that both may connect over.
    #[serde(default = "both")]
    pub over: Carrier,
    /// Which addresses of the nodes both are given, out of those that they may connect over.
    #[serde(default = "both")]
    pub addresses: Carrier,
    /// Additional options for `handover send`.
    #[serde(default)]
    pub send: Vec<String>,
    /// Additional options for `handover get`.
    #[serde(default)]
    pub get: Vec<String>,
    /// Timeout for the receiver, in seconds.
    #[serde(default = "two_minutes")]
    pub patience: u64,
}

fn both() -> Carrier {
    Carrier::Both
}

fn two_minutes() -> u64 {
    120
}

/// A host moves to another network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The host.
    pub host: String,
    /// When the host moves, in milliseconds after the receiver's start.
    pub after: u64,
    /// The gateway that it moves behind. `None` means the internet.
    #[serde(default)]
    pub behind: Option<String>,
}

/// The expected result of a scenario, besides that the complete file arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The path of the last link.
    pub path: Option<Path>,
    /// The path of the first link.
    pub first: Option<Path>,
}

/// A kind of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Without a relay.
    Direct,
    /// Over a relay.
    Relayed,
}

/// Maximum size of a file, in bytes. It is kept in memory.
const LARGEST: u64 = 4 << 30;

impl Scenario {
    /// Reads a scenario's file.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the file, and where.
    pub fn read(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.topology.check()?;
        let nodes = &scenario.nodes;
        let limits = nodes.circuit_kib.or(nodes.circuit_seconds);
        if nodes.foreign.is_some() && limits.is_some() {
            return Err("foreign nodes have limits of their own".into());
        }
        let transfer = &scenario.transfer;
        for host in [&transfer.from, &transfer.to] {
            scenario.is_host(host)?;
        }
        if transfer.from == transfer.to {
            return Err(format!("\"{}\" hands something to itself", transfer.from));
        }
        if transfer.bytes == 0 || transfer.bytes > LARGEST {
            return Err(format!("a file has 1 to {LARGEST} bytes"));
        }
        for moved in &scenario.moves {
            scenario.is_host(&moved.host)?;
            let known = |name: &String| scenario.topology.gateways.contains_key(name);
            if let Some(behind) = moved.behind.as_ref().filter(|name| !known(name)) {
                return Err(format!(
                    "\"{}\" moves behind \"{behind}\", which is no gateway",
                    moved.host
                ));
            }
        }
        Ok(scenario)
    }

    fn is_host(&self, name: &str) -> Result<(), String> {
        if self.topology.hosts.contains_key(name) {
            return Ok(());
        }
        let known: Vec<_> = self.topology.hosts.keys().map(String::as_str).collect();
        Err(format!(
            "\"{name}\" is no host; there is: {}",
            known.join(", ")
        ))
    }

    /// Returns the transfer.
    pub fn transfer(&self) -> Transfer {
        let planned = self.transfer.clone();
        Transfer {
            from: planned.from,
            to: planned.to,
            bytes: planned.bytes,
            carrier: planned.over,
            addresses: planned.addresses,
            send: planned.send,
            get: planned.get,
            patience: Duration::from_secs(planned.patience),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        about = "two homes"
        [gateways]
        left = { nat = "prc", link = { delay = "10 ms", rate = "10 Mbit/s" } }
        right = { nat = "prc-np" }
        [hosts]
        alice = { behind = "left" }
        bob = { behind = "right" }
        [nodes]
        circuit_kib = 128
        [transfer]
        from = "alice"
        to = "bob"
        bytes = 1_000_000
        over = "tcp"
        [[moves]]
        host = "bob"
        after = 500
        [expect]
        path = "direct"
    "#;

    #[test]
    fn a_whole_scenario_is_read() {
        let scenario = Scenario::read(WHOLE).unwrap();
        assert_eq!(scenario.nodes.options(), ["--circuit-kib", "128"]);
        assert_eq!(scenario.transfer().carrier, Carrier::Tcp);
        assert_eq!(scenario.expect.path, Some(Path::Direct));
        assert_eq!(scenario.moves[0].behind, None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (from, to, told) in [
            (
                "to = \"bob\"",
                "to = \"bo\"",
                "\"bo\" is no host; there is: alice, bob",
            ),
            ("from = \"alice\"", "from = \"bob\"", "to itself"),
            ("bytes = 1_000_000", "bytes = 0", "1 to"),
            (
                "after = 500",
                "after = 500\nbehind = \"x\"",
                "which is no gateway",
            ),
            ("nat = \"prc\"", "nat = \"prq\"", "prq"),
            ("[nodes]", "[nods]", "nods"),
            ("over = \"tcp\"", "over = \"udp\"", "tcp"),
            (
                "circuit_kib = 128",
                "circuit_kib = 128\nforeign = \"kubo\"",
                "limits of their own",
            ),
            ("circuit_kib = 128", "foreign = \"ours\"", "mixed-hurt"),
            ("rate = \"10 Mbit/s\"", "rate = \"fast\"", "fast"),
            ("[expect]", "[expect", "line"),
        ] {
            assert!(WHOLE.contains(from), "{from}");
            let error = Scenario::read(&WHOLE.replace(from, to)).unwrap_err();
            assert!(error.contains(told), "{to}: {error}");
        }
    }
}
