//! The nodes of the internet that peers bootstrap from: handover's own, or foreign ones.

use std::net::IpAddr;
use std::time::Duration;

use super::plan::{self, FIRST_FOREIGN, NODES};
use super::{Ground, GroundError, Place, Process, image};
use crate::foreign::{Launch, Selection, Software, Store, Wear};

/// The port of every node.
const PORT: u16 = 4001;
/// Timeout for a node to start. Several start at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Silently drops all incoming packets.
const SILENCE: &str = "table inet silence {
    chain inwards { type filter hook input priority 0; policy drop; }
}
";

/// The nodes on the internet.
#[derive(Debug, Clone)]
pub enum World {
    /// Two `handover node` processes, started with these options.
    Own(Vec<String>),
    /// Nodes that run the software of other projects.
    Foreign(Selection, Store),
}

impl World {
    /// Returns the nodes of `selection`, run by the installed software.
    ///
    /// # Errors
    ///
    /// The software is not installed.
    pub fn foreign(selection: Selection) -> Result<Self, GroundError> {
        Ok(Self::Foreign(selection, Store::open()?))
    }

    /// Returns how many runs are possible before the nodes must be restarted.
    pub fn wear(&self) -> Wear {
        match self {
            Self::Own(_) => Wear::NONE,
            Self::Foreign(selection, _) => selection.wear(),
        }
    }

    pub(super) fn has_dns(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Foreign(selection, _) => selection.has_dns(),
        }
    }

    pub(super) fn numbers(&self) -> Vec<u16> {
        match self {
            Self::Own(_) => NODES.into(),
            Self::Foreign(selection, _) => numbered(*selection).map(|(number, _)| number).collect(),
        }
    }
}

fn numbered(selection: Selection) -> impl Iterator<Item = (u16, Software)> {
    (FIRST_FOREIGN..).zip(selection.nodes())
}

/// A bootstrap node and relay.
pub struct Node {
    /// The software, or `None` for handover's own.
    pub software: Option<Software>,
    /// All addresses that it can be dialled at.
    pub addresses: Vec<String>,
    /// Runs for as long as this is kept.
    process: Option<Process>,
    /// Files that the node writes. Deleted with it.
    _files: Option<tempfile::TempDir>,
}

impl Node {
    /// True if this is its peer ID.
    pub fn is(&self, peer: &str) -> bool {
        self.id() == Some(peer)
    }

    /// Returns its peer ID, the last component of every address.
    pub fn id(&self) -> Option<&str> {
        self.addresses.first()?.rsplit('/').next()
    }

    /// Returns the name of its software in reports.
    pub fn name(&self) -> &'static str {
        self.software.map_or("handover node", Software::name)
    }

    /// Ends the process, before its files are deleted.
    pub(super) async fn end(self) {
        if let Some(process) = self.process {
            process.end().await;
        }
    }
}

fn stand_in(
    place: &Place,
    manner: &str,
    (ip, port): (IpAddr, u16),
) -> Result<Process, GroundError> {
    let at = format!("{ip}:{port}");
    place.start(&[image::LAB, "stand-in", manner, &at], &[])
}

impl Ground {
    /// Restarts the nodes, without any state.
    ///
    /// # Errors
    ///
    /// A node does not start.
    pub async fn restart_nodes(&mut self, world: &World) -> Result<(), GroundError> {
        for node in self.nodes.drain(..) {
            node.end().await;
        }
        self.start_nodes(world).await
    }

    pub(super) async fn start_nodes(&mut self, world: &World) -> Result<(), GroundError> {
        match world {
            World::Own(options) => {
                for number in NODES {
                    let node = self.start_own(number, options).await?;
                    self.nodes.push(node);
                }
            }
            World::Foreign(selection, store) => {
                for (number, software) in numbered(*selection) {
                    let node = self.start_foreign(number, software, store).await?;
                    self.nodes.push(node);
                }
            }
        }
        Ok(())
    }

    /// Starts a foreign node. It runs from the machine's file system, in the network of its container: the container
    /// has neither Node nor Python.
    async fn start_foreign(
        &self,
        number: u16,
        software: Software,
        store: &Store,
    ) -> Result<Node, GroundError> {
        let place = self.place(&plan::node_name(number))?;
        let files = tempfile::tempdir().map_err(|error| GroundError::File {
            path: std::env::temp_dir(),
            error,
        })?;
        let good = self.nodes.iter();
        let good = good.filter(|node| node.software.is_some_and(Software::is_good));
        let known: Vec<String> = good.flat_map(|node| node.addresses.clone()).collect();
        let at = (IpAddr::V4(plan::node_v4(number)), PORT);
        let launch = Launch::new(software, store, at, files.path(), &known);
        let mut ready = launch.ready();
        let process = match software {
            Software::Dead => {
                place.rules(SILENCE).await?;
                None
            }
            Software::Named => None,
            Software::Hanging => Some(stand_in(place, "hangs", at)?),
            Software::Rubbish => Some(stand_in(place, "talks-rubbish", at)?),
            _ => {
                let program: Vec<&str> = launch.program().iter().map(String::as_str).collect();
                let mut process = place.start_outside(&program)?;
                let up = async {
                    while !ready.is_up {
                        let (_, line) = process.line().await?;
                        ready.take(&line);
                    }
                    Some(())
                };
                if tokio::time::timeout(PATIENCE, up).await != Ok(Some(())) {
                    let node = format!("node {number}, {},", software.name());
                    return Err(late(&node, process).await);
                }
                Some(process)
            }
        };
        Ok(Node {
            software: Some(software),
            addresses: ready.addresses,
            process,
            _files: Some(files),
        })
    }

    async fn start_own(&self, number: u16, options: &[String]) -> Result<Node, GroundError> {
        let place = self.place(&plan::node_name(number))?;
        let mut arguments: Vec<String> = ["--json", "node", "--private", "--data-dir", "/tmp/node"]
            .map(String::from)
            .to_vec();
        let (v4, v6) = (plan::node_v4(number), plan::node_v6(number));
        let all = [
            format!("/ip4/{v4}/tcp/4001"),
            format!("/ip4/{v4}/udp/4001/quic-v1"),
            format!("/ip6/{v6}/tcp/4001"),
            format!("/ip6/{v6}/udp/4001/quic-v1"),
        ];
        for address in &all {
            let both = ["--listen", address, "--external", address];
            arguments.extend(both.map(String::from));
        }
        for address in self.nodes.iter().flat_map(|node| &node.addresses) {
            arguments.extend(["--bootstrap".to_owned(), address.clone()]);
        }
        arguments.extend(options.iter().cloned());
        let program: Vec<&str> = std::iter::once(image::HANDOVER)
            .chain(arguments.iter().map(String::as_str))
            .collect();
        let mut process = place.start(&program, &[])?;
        let mut addresses = Vec::new();
        let listening = async {
            while addresses.len() < all.len() {
                let (_, line) = process.line().await?;
                addresses.extend(node_address(&line));
            }
            Some(())
        };
        if tokio::time::timeout(PATIENCE, listening).await != Ok(Some(())) {
            return Err(late(&format!("node {number}"), process).await);
        }
        Ok(Node {
            software: None,
            addresses,
            process: Some(process),
            _files: None,
        })
    }
}

async fn late(node: &str, process: Process) -> GroundError {
    let (_, words) = process.end().await;
    GroundError::Late(format!("{node} does not come up: {}", words.trim()))
}

fn node_address(line: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = event.get("address")?.as_str()?;
    (event.get("event")? == "node_address").then(|| address.to_owned())
}
