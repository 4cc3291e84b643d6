//! Translates a topology into interfaces, addresses and routes, as shell scripts. Runs nothing itself.
//!
//! | where | IPv4 | IPv6 |
//! |---|---|---|
//! | the internet | `11.0.0.0/8`: nodes from `11.0.0.1`, foreign ones from `11.0.0.11`, others at `11.1.N.1` | `2a11:1::/64` |
//! | behind a gateway with hosts | `192.168.1.0/24`, the same everywhere, as in homes | `2a11:2:N::/64` |
//! | behind a gateway with gateways | `100.64.N.0/24` | `2a11:2:N::/64` |
//! | behind a firewall | `11.2.N.0/24`, not translated | `2a11:2:N::/64` |
//!
//! `N` is the number of the host or gateway. Peers treat the addresses as public. No packet leaves the containers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::GroundError;
use crate::nat::Kind;
use crate::topology::Topology;
use crate::wire::{Wire, offloads_off};

/// The name of the container for the internet. The internet itself is a bridge in it.
pub(super) const INTERNET: &str = "internet";
/// The address of that container, which routes IPv6.
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2a11, 1, 0, 0, 0, 0, 0, 0xffff);
/// The numbers of handover's own nodes.
pub(super) const NODES: [u16; 2] = [1, 2];
/// The number of the first foreign node, after the addresses of the probe server.
pub(super) const FIRST_FOREIGN: u16 = 11;

/// Returns a shell line that turns off an interface's offloads, so that a wire can carry its frames. It never fails: an
/// interface without offloads has none on.
fn plain(interface: &str) -> String {
    let words = offloads_off(interface).join(" ");
    format!("{words} >/dev/null 2>&1 || true\n")
}

/// The setup of every network namespace. Container engines disable IPv6 where they assign no address.
const FRESH: &str = "\
for which in all default; do
    echo 0 > /proc/sys/net/ipv6/conf/$which/disable_ipv6
    echo 0 > /proc/sys/net/ipv6/conf/$which/accept_dad
done
ip link set lo up
";

/// A container, and the scripts that set up its network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) name: String,
    /// The container at the other end of its link.
    pub(super) parent: String,
    /// Script for its own network, run before its link exists.
    pub(super) before: String,
    /// Script for its own network. `PARENT` is a placeholder for the process ID of the container at the other end.
    pub(super) own: String,
    /// Script for the network at the other end, run after `own`.
    pub(super) above: String,
    /// Scripts for other networks: routes to the network behind it.
    pub(super) elsewhere: Vec<(String, String)>,
    pub(super) wire: Option<Wire>,
}

/// A host or a gateway, and where it is connected.
struct Member<'a> {
    name: &'a str,
    /// Its number among all hosts and gateways.
    number: u16,
    parent: Option<&'a str>,
    ipv4: bool,
    ipv6: bool,
    link: Option<crate::wire::Conditions>,
}

/// Numbers of hosts and gateways. They stay the same when more are added.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers(BTreeMap<String, u16>);

impl Numbers {
    fn of(&mut self, name: &str) -> Result<u16, GroundError> {
        // A host's number is part of the last byte of its address.
        const MOST: u16 = 200;
        let next = u16::try_from(self.0.len()).unwrap_or(MOST) + 1;
        let number = *self.0.entry(name.to_owned()).or_insert(next);
        if number > MOST {
            let reason = format!("there may be {MOST} hosts and gateways");
            return Err(GroundError::Topology(reason));
        }
        Ok(number)
    }
}

/// Plans all of a topology. Parents come before the gateways and hosts behind them.
pub(super) fn plan(
    topology: &Topology,
    numbers: &mut Numbers,
) -> Result<Vec<Planned>, GroundError> {
    topology.check().map_err(GroundError::Topology)?;
    for name in topology.gateways.keys().chain(topology.hosts.keys()) {
        numbers.of(name)?;
    }
    let mut gateways: Vec<(usize, &String)> = Vec::new();
    for name in topology.gateways.keys() {
        let depth = topology
            .chain_of(name)
            .map_err(GroundError::Topology)?
            .len();
        gateways.push((depth, name));
    }
    gateways.sort();
    let mut planned = Vec::new();
    for (_, name) in gateways {
        planned.push(gateway(topology, name, numbers)?);
    }
    for name in topology.hosts.keys() {
        planned.push(host(topology, name, numbers)?);
    }
    Ok(planned)
}

/// Plans one host, at its position in the topology.
pub(super) fn host(
    topology: &Topology,
    name: &str,
    numbers: &mut Numbers,
) -> Result<Planned, GroundError> {
    let Some(host) = topology.hosts.get(name) else {
        let reason = format!("there is no host \"{name}\"");
        return Err(GroundError::Topology(reason));
    };
    let member = Member {
        name,
        number: numbers.of(name)?,
        parent: host.behind.as_deref(),
        ipv4: host.ipv4,
        ipv6: host.ipv6,
        link: host.link,
    };
    link(topology, &member, numbers)
}

fn gateway(topology: &Topology, name: &str, numbers: &mut Numbers) -> Result<Planned, GroundError> {
    let gateway = &topology.gateways[name];
    let number = numbers.of(name)?;
    let ipv6 = topology.carries_ipv6(name);
    let member = Member {
        name,
        number,
        parent: gateway.behind.as_deref(),
        ipv4: true,
        ipv6,
        link: gateway.link,
    };
    let mut planned = link(topology, &member, numbers)?;
    let inside = inside_v4(topology, name, number);
    let mut before = String::from("ip link add name lan type bridge\n");
    let _ = writeln!(before, "ip addr add {inside}/24 dev lan");
    if ipv6 {
        let _ = writeln!(
            before,
            "ip addr add {}/64 dev lan nodad",
            inside_v6(number, 1)
        );
    }
    before.push_str("ip link set lan up\n");
    planned.before.push_str(&before);
    if gateway.nat == Kind::Fw {
        // Hosts behind it have addresses of the outer network, so it answers ARP requests for them.
        planned
            .own
            .push_str("echo 1 > /proc/sys/net/ipv4/conf/wan/proxy_arp\n");
    }
    if ipv6 {
        planned.elsewhere = routes_v6(topology, name, numbers)?;
    }
    Ok(planned)
}

/// Returns the routes to the network behind a gateway, for the internet and for each gateway on the way.
fn routes_v6(
    topology: &Topology,
    name: &str,
    numbers: &mut Numbers,
) -> Result<Vec<(String, String)>, GroundError> {
    let chain = topology.chain_of(name).map_err(GroundError::Topology)?;
    let target = inside_v6(numbers.of(name)?, 0);
    let mut routes = Vec::new();
    for (at, hop) in chain.iter().enumerate() {
        let number = numbers.of(hop)?;
        let above = chain.get(at + 1);
        let via = match above {
            Some(above) => behind_v6(numbers.of(above)?, number),
            None => outside_v6(number),
        };
        let place = above.map_or(INTERNET, String::as_str);
        let route = format!("ip -6 route replace {target}/64 via {via}\n");
        routes.push((place.to_owned(), route));
    }
    Ok(routes)
}

/// Plans the link between a member and what it is behind.
fn link(
    topology: &Topology,
    member: &Member<'_>,
    numbers: &mut Numbers,
) -> Result<Planned, GroundError> {
    let port = format!("m{}", member.number);
    let mut own = format!("ip link add wan type veth peer name {port} netns PARENT\n");
    let (v4, v6) = match member.parent {
        None => (
            (outside_v4(member.number), 8, None),
            (outside_v6(member.number), ROUTER_V6),
        ),
        Some(parent) => {
            let above = numbers.of(parent)?;
            let gateway = inside_v4(topology, parent, above);
            let address = behind_v4(gateway, member.number);
            (
                (address, 24, Some(gateway)),
                (behind_v6(above, member.number), inside_v6(above, 1)),
            )
        }
    };
    own.push_str("ip link set wan up\n");
    if member.ipv4 {
        let (address, length, gateway) = v4;
        let _ = writeln!(own, "ip addr add {address}/{length} dev wan");
        if let Some(gateway) = gateway {
            let _ = writeln!(own, "ip route replace default via {gateway}");
        }
    }
    if member.ipv6 {
        let (address, gateway) = v6;
        let _ = writeln!(own, "ip addr add {address}/64 dev wan nodad");
        let _ = writeln!(own, "ip -6 route replace default via {gateway}");
    }
    let bridge = member.parent.map_or("net", |_| "lan");
    let conditions = member.link.filter(|link| !link.is_plain());
    let mut above = String::new();
    let wire = conditions.map(|conditions| {
        let (near, far) = (format!("{port}w"), format!("{port}b"));
        own.push_str(&plain("wan"));
        let _ = writeln!(above, "ip link add {near} type veth peer name {far}");
        for end in [&port, &near, &far] {
            above.push_str(&plain(end));
            let _ = writeln!(above, "ip link set {end} up");
        }
        let _ = writeln!(above, "ip link set {far} master {bridge}");
        Wire {
            ends: [port.clone(), near],
            there: conditions,
            back: conditions,
        }
    });
    if wire.is_none() {
        let _ = writeln!(
            above,
            "ip link set {port} master {bridge}\nip link set {port} up"
        );
    }
    Ok(Planned {
        name: member.name.to_owned(),
        parent: member.parent.unwrap_or(INTERNET).to_owned(),
        before: String::from(FRESH),
        own,
        above,
        elsewhere: Vec::new(),
        wire,
    })
}

/// Returns the setup script of the container for the internet.
pub(super) fn internet(probed: &[std::net::IpAddr]) -> String {
    let mut script = format!("{FRESH}ip link add name net type bridge\n");
    let _ = writeln!(script, "ip addr add 11.255.255.254/8 dev net");
    let _ = writeln!(script, "ip addr add {ROUTER_V6}/64 dev net nodad");
    for address in probed {
        let length = if address.is_ipv4() { 8 } else { 64 };
        let _ = writeln!(script, "ip addr add {address}/{length} dev net nodad");
    }
    script.push_str("ip link set net up\n");
    script
}

/// Returns the name of a node.
pub(super) fn node_name(number: u16) -> String {
    format!("node{number}")
}

/// Plans a node on the internet.
pub(super) fn node(number: u16) -> Planned {
    let port = format!("n{number}");
    let own = format!(
        "ip link add wan type veth peer name {port} netns PARENT\n\
         ip link set wan up\n\
         ip addr add {}/8 dev wan\n\
         ip addr add {}/64 dev wan nodad\n\
         ip -6 route replace default via {ROUTER_V6}\n",
        node_v4(number),
        node_v6(number),
    );
    Planned {
        name: node_name(number),
        parent: INTERNET.to_owned(),
        before: String::from(FRESH),
        own,
        above: format!("ip link set {port} master net\nip link set {port} up\n"),
        elsewhere: Vec::new(),
        wire: None,
    }
}

pub(super) fn node_v4(number: u16) -> Ipv4Addr {
    let [_, low] = number.to_be_bytes();
    Ipv4Addr::new(11, 0, 0, low)
}

pub(super) fn node_v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2a11, 1, 0, 0, 0, 0, 0, number)
}

/// Returns the IPv4 address of a host or gateway on the internet.
fn outside_v4(number: u16) -> Ipv4Addr {
    let [_, low] = number.to_be_bytes();
    Ipv4Addr::new(11, 1, low, 1)
}

fn outside_v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2a11, 1, 0, 0, 0, 0, 1, number)
}

/// Returns a gateway's own address on its inner network.
fn inside_v4(topology: &Topology, name: &str, number: u16) -> Ipv4Addr {
    let [_, low] = number.to_be_bytes();
    let mut gateways = topology.gateways.iter();
    let firewall = topology.gateways[name].nat == Kind::Fw;
    if firewall {
        Ipv4Addr::new(11, 2, low, 1)
    } else if gateways.any(|(_, inner)| inner.behind.as_deref() == Some(name)) {
        Ipv4Addr::new(100, 64, low, 1)
    } else {
        Ipv4Addr::new(192, 168, 1, 1)
    }
}

/// Returns an address in the network behind a gateway.
fn inside_v6(gateway: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2a11, 2, gateway, 0, 0, 0, 0, host)
}

/// Returns the address of the host or gateway with this number, behind the gateway with that address.
fn behind_v4(gateway: Ipv4Addr, number: u16) -> Ipv4Addr {
    let [a, b, c, _] = gateway.octets();
    Ipv4Addr::new(a, b, c, u8::try_from(10 + number).unwrap_or(u8::MAX))
}

/// Returns the IPv6 address of the host or gateway with this number, behind the gateway with that number.
fn behind_v6(gateway: u16, number: u16) -> Ipv6Addr {
    inside_v6(gateway, 0x100 + number)
}

/// Returns the outer address of a gateway.
pub(super) fn wan_v4(
    topology: &Topology,
    name: &str,
    numbers: &mut Numbers,
) -> Result<Ipv4Addr, GroundError> {
    let number = numbers.of(name)?;
    let Some(parent) = topology.gateways[name].behind.as_deref() else {
        return Ok(outside_v4(number));
    };
    let above = numbers.of(parent)?;
    Ok(behind_v4(inside_v4(topology, parent, above), number))
}
