//! Finds out what a NAT is, by talking through it to a server with two addresses (as RFC 5780 does).

use serde::{Deserialize, Serialize};

/// What a mapping or a filter depends on (RFC 4787, sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depends {
    /// On nothing outside.
    EndpointIndependent,
    /// On the address outside.
    Address,
    /// On the address and the port outside.
    AddressAndPort,
}

/// How ports outside follow from those inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// They are the same.
    Kept,
    /// They are others, one after the other.
    Sequential,
    /// They are others.
    Other,
}

/// What is between a host and the internet, for one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// The address outside is another one than the host's own.
    pub translated: bool,
    /// What the outer port depends on.
    pub mapping: Depends,
    /// What the right to come in depends on; `None` if everybody may come in, called or not.
    pub filtering: Option<Depends>,
    /// How the outer port follows from the inner one.
    pub ports: Ports,
}

/// What a probe found; `None` for a protocol that does not get out at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Over UDP.
    pub udp: Option<Behaviour>,
    /// Over TCP.
    pub tcp: Option<Behaviour>,
    /// What is sent to the address that another socket of the same host has outside arrives there.
    pub hairpin: bool,
}
