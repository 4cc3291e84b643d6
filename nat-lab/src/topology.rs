//! Describes a network: hosts, the gateways they are behind, and the gateways behind other gateways.
//!
//! Everything that is not behind a gateway is on the internet: one segment, which also has the bootstrap nodes. A
//! [`Topology`] is data, read from a scenario file or made by the matrix. [`Topology::check`] explains what is wrong
//! with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nat::Kind;
use crate::wire::Conditions;

/// Hosts and gateways, by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Gateways.
    #[serde(default)]
    pub gateways: BTreeMap<String, Gateway>,
    /// Hosts, on which peers run.
    pub hosts: BTreeMap<String, Host>,
}

/// A gateway, and what it does to packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// The kind of NAT. IPv6 is only filtered, never translated.
    pub nat: Kind,
    /// The gateway that this one is behind. `None` puts it on the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// True if it hairpins: packets from inside to one of its mapped outer addresses come back in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hairpin: bool,
    /// The protocol by which hosts can request port mappings, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// Conditions of the link to the internet. Only for gateways that are on the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Conditions>,
}

/// The protocol by which a gateway takes requests for port mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// PCP, and NAT-PMP on the same port.
    Pcp,
    /// The Internet Gateway Device of `UPnP`.
    Upnp,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The gateway that it is behind. `None` puts it on the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// True if it has an IPv4 address.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub ipv4: bool,
    /// True if it has an IPv6 address.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ipv6: bool,
    /// Conditions of the link to the internet. Only for hosts that are on the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Conditions>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            behind: None,
            ipv4: true,
            ipv6: false,
            link: None,
        }
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_true(value: &bool) -> bool {
    *value
}

/// Maximum number of gateways, and of hosts, in one topology. The number of each is one byte of an address.
pub const MOST: usize = 200;
/// Maximum length of a name, in bytes. Names are part of the names of containers and interfaces.
const LONGEST_NAME: usize = 24;
/// The lab's reserved name, and the prefix of the names of its nodes.
const INTERNET: &str = "internet";
const NODE: &str = "node";

impl Topology {
    /// Checks that the topology can be built.
    ///
    /// # Errors
    ///
    /// An unknown, ambiguous or malformed name, a host without an address, a cycle of gateways, conditions on a link
    /// that does not lead to the internet, or too many hosts or gateways.
    pub fn check(&self) -> Result<(), String> {
        for (what, count) in [
            ("gateways", self.gateways.len()),
            ("hosts", self.hosts.len()),
        ] {
            if count > MOST {
                return Err(format!("there may be {MOST} {what}, and there are {count}"));
            }
        }
        for name in self.gateways.keys().chain(self.hosts.keys()) {
            check_name(name)?;
        }
        if let Some(name) = self
            .hosts
            .keys()
            .find(|name| self.gateways.contains_key(*name))
        {
            return Err(format!("\"{name}\" is both a host and a gateway"));
        }
        let gateways = self.gateways.iter();
        let gateways = gateways.map(|(name, gateway)| (name, &gateway.behind, &gateway.link));
        let hosts = self.hosts.iter();
        let hosts = hosts.map(|(name, host)| (name, &host.behind, &host.link));
        for (name, behind, link) in gateways.chain(hosts) {
            if let Some(behind) = behind {
                self.is_known(name, behind)?;
                if link.is_some() {
                    return Err(format!(
                        "\"{name}\" is behind \"{behind}\"; only what is on the internet has a link with conditions"
                    ));
                }
            }
        }
        for (name, host) in &self.hosts {
            if !host.ipv4 && !host.ipv6 {
                return Err(format!("\"{name}\" has neither IPv4 nor IPv6"));
            }
        }
        self.gateways
            .keys()
            .try_for_each(|name| self.chain_of(name).map(|_| ()))
    }

    fn is_known(&self, name: &str, behind: &str) -> Result<(), String> {
        if self.gateways.contains_key(behind) {
            return Ok(());
        }
        let known: Vec<_> = self.gateways.keys().map(String::as_str).collect();
        Err(format!(
            "\"{name}\" is behind \"{behind}\", which is no gateway; there is: {}",
            known.join(", ")
        ))
    }

    /// Returns a gateway and those that it is behind, the innermost first.
    ///
    /// # Errors
    ///
    /// The gateway is behind itself.
    pub fn chain_of(&self, gateway: &str) -> Result<Vec<String>, String> {
        let mut chain = vec![gateway.to_owned()];
        let mut next = self.gateways.get(gateway).and_then(|it| it.behind.as_ref());
        while let Some(name) = next {
            if chain.contains(name) {
                return Err(format!("\"{gateway}\" is behind itself"));
            }
            chain.push(name.clone());
            next = self.gateways.get(name).and_then(|it| it.behind.as_ref());
        }
        Ok(chain)
    }

    /// True if a host behind this gateway, directly or through other gateways, has IPv6.
    pub fn carries_ipv6(&self, gateway: &str) -> bool {
        let hosts = self.hosts.values();
        let mut hosts = hosts.filter(|host| host.ipv6);
        hosts.any(|host| {
            let behind = host.behind.as_deref();
            let chain = behind.and_then(|behind| self.chain_of(behind).ok());
            chain.is_some_and(|chain| chain.iter().any(|name| name == gateway))
        })
    }

    /// Adds all of another topology, with `prefix` in front of every name.
    pub fn add(&mut self, prefix: &str, other: &Self) {
        let name = |name: &String| format!("{prefix}{name}");
        for (own, gateway) in &other.gateways {
            let behind = gateway.behind.as_ref().map(name);
            let gateway = Gateway {
                behind,
                ..gateway.clone()
            };
            self.gateways.insert(name(own), gateway);
        }
        for (own, host) in &other.hosts {
            let behind = host.behind.as_ref().map(name);
            let host = Host {
                behind,
                ..host.clone()
            };
            self.hosts.insert(name(own), host);
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
        return Err(format!(
            "{name:?} is no name here: up to {LONGEST_NAME} of a to z, 0 to 9 and -"
        ));
    }
    let is_node = name
        .strip_prefix(NODE)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    if name == INTERNET || is_node {
        return Err(format!("\"{name}\" is one of the lab's own names"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(), String> {
        let topology: Topology = toml::from_str(text).map_err(|error| error.to_string())?;
        topology.check()
    }

    #[test]
    fn a_home_behind_a_carrier_is_fine() {
        let home = "gateways.home = { nat = \"prc\", behind = \"carrier\" }
            gateways.carrier = { nat = \"sym\", hairpin = true, link = { delay = \"10 ms\" } }
            hosts.alice = { behind = \"home\" }
            hosts.bob = {}";
        assert_eq!(read(home), Ok(()));
        let topology: Topology = toml::from_str(home).unwrap();
        assert_eq!(topology.chain_of("home").unwrap(), ["home", "carrier"]);
        assert!(!topology.carries_ipv6("carrier"));
    }

    #[test]
    fn what_can_not_be_built_is_told() {
        for (text, told) in [
            ("hosts.a = { behind = \"b\" }", "is no gateway"),
            ("hosts.A = {}", "is no name here"),
            ("hosts.node1 = {}", "the lab's own names"),
            ("hosts.a = { ipv4 = false }", "neither IPv4 nor IPv6"),
            (
                "hosts.a = {}\ngateways.a = { nat = \"prc\" }",
                "both a host and a gateway",
            ),
            (
                "hosts.a = {}\ngateways.b = { nat = \"prc\", behind = \"c\" }\ngateways.c = { nat = \"prc\", behind = \"b\" }",
                "is behind itself",
            ),
            (
                "hosts.a = { behind = \"b\", link = {} }\ngateways.b = { nat = \"prc\" }",
                "only what is on the internet",
            ),
            ("hosts.a = { behin = \"b\" }", "unknown field"),
            ("hosts.a = {}\ngateways.b = { nat = \"prx\" }", "prc"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
