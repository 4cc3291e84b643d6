//! Builds a planned network container by container, and removes it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::StreamExt;

use super::nodes::{Node, World};
use super::plan::{self, INTERNET, Numbers, Planned};
use super::{Engine, GroundError, Place, Process, image};
use crate::nat;
use crate::topology::{Mapping, Topology};
use crate::wire::Wire;

/// IPv4 addresses of the probe server, on the internet.
pub const PROBED_V4: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(11, 0, 0, 8)),
    IpAddr::V4(Ipv4Addr::new(11, 0, 0, 9)),
];
/// IPv6 addresses of the probe server.
pub const PROBED_V6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2a11, 1, 0, 0, 0, 0, 0, 8)),
    IpAddr::V6(Ipv6Addr::new(0x2a11, 1, 0, 0, 0, 0, 0, 9)),
];
/// Ports of the probe server.
pub const PROBE_PORTS: [u16; 2] = [3478, 3479];

/// Maximum number of containers started at once.
const AT_ONCE: usize = 4;

/// A running network.
pub struct Ground {
    engine: Engine,
    topology: Topology,
    numbers: Numbers,
    places: BTreeMap<String, Place>,
    pub(super) nodes: Vec<Node>,
    /// Helper processes that run for as long as the network exists.
    servants: Vec<Process>,
}

impl Ground {
    /// Builds a topology on an internet with the nodes of `world`.
    ///
    /// # Errors
    ///
    /// The topology is invalid, the engine returns an error, or something does not start.
    pub async fn build(
        engine: &Engine,
        topology: &Topology,
        world: &World,
        seed: u64,
    ) -> Result<Self, GroundError> {
        let mut numbers = Numbers::default();
        let nodes = world.numbers();
        let mut planned: Vec<Planned> = nodes.into_iter().map(plan::node).collect();
        planned.extend(plan::plan(topology, &mut numbers)?);
        let names = planned.iter().map(|planned| planned.name.clone());
        let names = std::iter::once(INTERNET.to_owned()).chain(names);
        let starts = names.map(|name| async move {
            let (container, pid) = engine.start(&name).await?;
            Ok::<_, GroundError>((name.clone(), Place::new(name, pid, container)))
        });
        let started: Vec<_> = futures::stream::iter(starts)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut ground = Self {
            engine: engine.clone(),
            topology: topology.clone(),
            numbers,
            places: started.into_iter().collect::<Result<_, _>>()?,
            nodes: Vec::new(),
            servants: Vec::new(),
        };
        ground.join(&planned, seed).await?;
        ground.map_ports().await?;
        if !world.has_dns() {
            ground.end_dns()?;
        }
        ground.start_nodes(world).await?;
        Ok(ground)
    }

    /// Configures a nonexistent DNS server on the hosts.
    fn end_dns(&self) -> Result<(), GroundError> {
        for host in self.topology.hosts.keys() {
            let path = self.place(host)?.file("/etc/resolv.conf");
            std::fs::write(&path, "nameserver 11.255.255.250\n")
                .map_err(|error| GroundError::File { path, error })?;
        }
        Ok(())
    }

    /// Creates the links, and starts the programs on the internet itself.
    async fn join(&mut self, planned: &[Planned], seed: u64) -> Result<(), GroundError> {
        let internet = self.place(INTERNET)?;
        let probed: Vec<_> = PROBED_V4.into_iter().chain(PROBED_V6).collect();
        internet
            .shell("making the internet", &plan::internet(&probed))
            .await?;
        self.set(INTERNET).await?;
        for planned in planned {
            self.make(planned).await?;
        }
        let wires: Vec<Wire> = planned.iter().filter_map(|it| it.wire.clone()).collect();
        let internet = self.place(INTERNET)?;
        let mut servants = Vec::new();
        if !wires.is_empty() {
            let wires = serde_json::to_string(&wires).unwrap_or_default();
            let seed = seed.to_string();
            servants.push(internet.start(&[image::LAB, "wire", &wires, "--seed", &seed], &[])?);
        }
        for addresses in [PROBED_V4, PROBED_V6] {
            let addresses = addresses.map(|address| address.to_string());
            let ports = PROBE_PORTS.map(|port| port.to_string());
            let [a, b] = &addresses;
            let [p, q] = &ports;
            servants.push(internet.start(&[image::LAB, "probe-serve", a, b, p, q], &[])?);
        }
        self.servants.extend(servants);
        Ok(())
    }

    async fn make(&self, planned: &Planned) -> Result<(), GroundError> {
        let place = self.place(&planned.name)?;
        let parent = self.place(&planned.parent)?;
        let doing = "making a network";
        place.shell(doing, &planned.before).await?;
        if self.topology.gateways.contains_key(&planned.name) {
            self.set(&planned.name).await?;
        }
        let own = planned.own.replace("PARENT", &parent.pid().to_string());
        place.shell(doing, &own).await?;
        parent.shell(doing, &planned.above).await?;
        for (at, lines) in &planned.elsewhere {
            self.place(at)?.shell(doing, lines).await?;
        }
        if let Some(gateway) = self.topology.gateways.get(&planned.name) {
            let wan = plan::wan_v4(&self.topology, &planned.name, &mut self.numbers.clone())?;
            let rules = nat::Gateway {
                kind: gateway.nat,
                hairpin: gateway.hairpin,
                maps_ports: gateway.mapping.is_some(),
                wan: "wan",
                lan: "lan",
                wan_v4: wan,
            };
            place.rules(&rules.rules()).await?;
        }
        Ok(())
    }

    /// Applies the kernel settings of a router.
    async fn set(&self, name: &str) -> Result<(), GroundError> {
        // Settings that the kernel does not have are skipped.
        let line = |(path, value): &(&str, &str)| {
            format!("[ ! -e /proc/sys/{path} ] || echo {value} > /proc/sys/{path}\n")
        };
        let script: String = nat::sysctls().iter().map(line).collect();
        self.place(name)?
            .shell("setting up a router", &script)
            .await
    }

    /// Starts the port mapping server at the gateways that have one.
    async fn map_ports(&mut self) -> Result<(), GroundError> {
        for (name, gateway) in &self.topology.gateways {
            let Some(mapping) = gateway.mapping else {
                continue;
            };
            if super::find_program("miniupnpd").is_none() {
                return Err(GroundError::Missing {
                    what: "the program miniupnpd, for a gateway that maps ports".into(),
                    advice: "Debian's package is miniupnpd-nftables",
                });
            }
            let place = self.place(name)?;
            place.rules(MAPPED).await?;
            // Without this route it would search and answer on the internet side.
            let route = "ip route replace 239.0.0.0/8 dev lan\n";
            place
                .shell("setting up a router that maps ports", route)
                .await?;
            let path = place.file("/tmp/miniupnpd.conf");
            std::fs::write(&path, mapper_settings(mapping))
                .map_err(|error| GroundError::File { path, error })?;
            let mapper = [
                image::MAPPER,
                "-d",
                "-f",
                "/tmp/miniupnpd.conf",
                "-P",
                "/tmp/miniupnpd.pid",
            ];
            let mapper = place.start(&mapper, &[])?;
            self.servants.push(mapper);
        }
        Ok(())
    }

    /// Returns a host or a gateway by its name in the topology.
    ///
    /// # Errors
    ///
    /// The topology has no such name.
    pub fn place(&self, name: &str) -> Result<&Place, GroundError> {
        let missing = || GroundError::Topology(format!("there is no \"{name}\""));
        self.places.get(name).ok_or_else(missing)
    }

    /// Returns the topology that the network was built from. Hosts may have moved since.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns the nodes that peers bootstrap from.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Moves a host behind another gateway, or onto the internet. Its link is replaced and its address changes.
    ///
    /// # Errors
    ///
    /// There is no such host or gateway.
    pub async fn move_host(&self, name: &str, behind: Option<&str>) -> Result<(), GroundError> {
        let place = self.place(name)?;
        let mut moved = self.topology.clone();
        if let Some(host) = moved.hosts.get_mut(name) {
            host.behind = behind.map(str::to_owned);
            host.link = None;
        }
        moved.check().map_err(GroundError::Topology)?;
        let planned = plan::host(&moved, name, &mut self.numbers.clone())?;
        place
            .shell("leaving a network", "ip link del wan\n")
            .await?;
        self.make(&planned).await
    }

    /// Removes the network.
    ///
    /// # Errors
    ///
    /// The engine returns an error.
    pub async fn remove(mut self) -> Result<(), GroundError> {
        for node in self.nodes.drain(..) {
            node.end().await;
        }
        self.engine.remove_own().await.map(|_| ())
    }
}

/// The table that miniupnpd fills. It accepts mapped packets before the gateway's own table sees them.
const MAPPED: &str = "table inet mapped {
    chain prerouting { type nat hook prerouting priority dstnat; jump inwards; }
    chain postrouting { type nat hook postrouting priority srcnat; jump outwards; }
    chain forward { type filter hook forward priority 0; jump forwarded; }
    chain inwards { }
    chain outwards { }
    chain forwarded { }
}
";

fn mapper_settings(mapping: Mapping) -> String {
    let (natpmp, upnp) = match mapping {
        Mapping::Pcp => ("yes", "no"),
        Mapping::Upnp => ("no", "yes"),
    };
    format!(
        "ext_ifname=wan\nlistening_ip=lan\nsecure_mode=yes\nuuid=5e7b0e36-2d0b-4b0e-9d9c-5f3a3f0c9a11\n\
         upnp_table_name=mapped\nupnp_nat_table_name=mapped\nupnp_forward_chain=forwarded\n\
         upnp_nat_chain=inwards\nupnp_nat_postrouting_chain=outwards\nenable_natpmp={natpmp}\nenable_upnp={upnp}\n\
         allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    )
}
