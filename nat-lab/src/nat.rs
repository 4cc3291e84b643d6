//! The kinds of NAT, and the packet filter rules that make a gateway one of them.
//!
//! A [`Kind`] names the behaviour of a gateway, and [`Gateway::rules`] returns the rules for the kernel.
//! [`Kind::claims`] states the behaviour in the terms of the [probe](crate::probe), which checks the rules against it.
//!
//! IPv6 is never translated. Every kind but [`Kind::Pub`] filters it as a stateful firewall does.

mod rules;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::probe::{Behaviour, Depends, Findings, Ports};

/// What a gateway does to packets. The short name of each kind is used in tables, files and arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `pub`: forwards everything unchanged.
    #[serde(rename = "pub")]
    Pub,
    /// `fw`: a stateful filter, without translation.
    #[serde(rename = "fw")]
    Fw,
    /// `fc`: a full cone.
    #[serde(rename = "fc")]
    Fc,
    /// `rc`: an address-restricted cone.
    #[serde(rename = "rc")]
    Rc,
    /// `prc`: a port-restricted cone.
    #[serde(rename = "prc")]
    Prc,
    /// `fc-np`: a full cone that never keeps the port.
    #[serde(rename = "fc-np")]
    FcNp,
    /// `rc-np`: an address-restricted cone that never keeps the port.
    #[serde(rename = "rc-np")]
    RcNp,
    /// `prc-np`: a port-restricted cone that never keeps the port.
    #[serde(rename = "prc-np")]
    PrcNp,
    /// `sym`: symmetric, with random ports.
    #[serde(rename = "sym")]
    Sym,
    /// `sym-seq`: symmetric, with sequential ports.
    #[serde(rename = "sym-seq")]
    SymSeq,
    /// `udp-blocked`: as `prc`, but silently drops all UDP in both directions, over IPv6 as well.
    #[serde(rename = "udp-blocked")]
    UdpBlocked,
}

/// The text is not the short name of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no kind of NAT called {0:?}")]
pub struct UnknownKind(pub String);

impl Kind {
    /// All kinds, the most permissive first.
    pub const ALL: [Self; 11] = [
        Self::Pub,
        Self::Fw,
        Self::Fc,
        Self::Rc,
        Self::Prc,
        Self::FcNp,
        Self::RcNp,
        Self::PrcNp,
        Self::Sym,
        Self::SymSeq,
        Self::UdpBlocked,
    ];

    /// Returns the short name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pub => "pub",
            Self::Fw => "fw",
            Self::Fc => "fc",
            Self::Rc => "rc",
            Self::Prc => "prc",
            Self::FcNp => "fc-np",
            Self::RcNp => "rc-np",
            Self::PrcNp => "prc-np",
            Self::Sym => "sym",
            Self::SymSeq => "sym-seq",
            Self::UdpBlocked => "udp-blocked",
        }
    }

    /// Returns a one-line description.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Pub => "no NAT; everything may come in",
            Self::Fw => "no NAT; only answers may come in",
            Self::Fc => "full cone, port kept",
            Self::Rc => "address-restricted cone, port kept",
            Self::Prc => "port-restricted cone, port kept",
            Self::FcNp => "full cone, port not kept",
            Self::RcNp => "address-restricted cone, port not kept",
            Self::PrcNp => "port-restricted cone, port not kept",
            Self::Sym => "symmetric, random ports",
            Self::SymSeq => "symmetric, one port after the other",
            Self::UdpBlocked => "port-restricted cone, port kept; UDP dropped",
        }
    }

    /// True if it translates addresses.
    pub const fn translates(self) -> bool {
        !matches!(self, Self::Pub | Self::Fw)
    }

    /// True if it can hairpin. The symmetric kinds cannot: each of their mapped ports is valid for one destination, so
    /// packets from inside to that port never pass the filter.
    pub const fn can_hairpin(self) -> bool {
        self.is_cone()
    }

    /// True if it forwards UDP.
    pub const fn passes_udp(self) -> bool {
        !matches!(self, Self::UdpBlocked)
    }

    const fn is_cone(self) -> bool {
        self.translates() && matches!(self.mapping(), Depends::EndpointIndependent)
    }

    const fn mapping(self) -> Depends {
        match self {
            Self::Sym | Self::SymSeq => Depends::AddressAndPort,
            _ => Depends::EndpointIndependent,
        }
    }

    const fn filtering(self) -> Option<Depends> {
        match self {
            Self::Pub => None,
            Self::Fc | Self::FcNp => Some(Depends::EndpointIndependent),
            Self::Rc | Self::RcNp => Some(Depends::Address),
            _ => Some(Depends::AddressAndPort),
        }
    }

    const fn ports(self) -> Ports {
        match self {
            Self::FcNp | Self::RcNp | Self::PrcNp | Self::Sym => Ports::Other,
            Self::SymSeq => Ports::Sequential,
            _ => Ports::Kept,
        }
    }

    /// Returns what a probe over IPv4 must find behind a gateway of this kind. `hairpin` is the gateway's setting.
    pub fn claims(self, hairpin: bool) -> Findings {
        let behaviour = Behaviour {
            translated: self.translates(),
            mapping: self.mapping(),
            filtering: self.filtering(),
            ports: self.ports(),
        };
        Findings {
            udp: self.passes_udp().then_some(behaviour),
            tcp: Some(behaviour),
            hairpin: !self.translates() || (hairpin && self.can_hairpin()),
        }
    }

    /// Returns what a probe over IPv6 must find.
    pub fn claims_v6(self) -> Findings {
        let plain = if self == Self::Pub {
            Self::Pub
        } else {
            Self::Fw
        };
        let findings = plain.claims(false);
        let udp = findings.udp.filter(|_| self.passes_udp());
        Findings { udp, ..findings }
    }
}

/// Returns what a probe must find behind two nested gateways, given what it must find behind each.
pub fn chained(inner: &Findings, outer: &Findings) -> Findings {
    let translated = outer.tcp.is_some_and(|behaviour| behaviour.translated);
    // Hairpinning at the outer gateway needs an inner mapping that is the same for all destinations.
    let steady = inner
        .tcp
        .is_some_and(|behaviour| behaviour.mapping == Depends::EndpointIndependent);
    Findings {
        udp: inner.udp.zip(outer.udp).map(through),
        tcp: inner.tcp.zip(outer.tcp).map(through),
        hairpin: if translated {
            outer.hairpin && steady
        } else {
            inner.hairpin
        },
    }
}

fn through((inner, outer): (Behaviour, Behaviour)) -> Behaviour {
    Behaviour {
        translated: inner.translated || outer.translated,
        mapping: stricter(inner.mapping, outer.mapping),
        filtering: match (inner.filtering, outer.filtering) {
            (Some(inner), Some(outer)) => Some(stricter(inner, outer)),
            (inner, outer) => inner.or(outer),
        },
        ports: if outer.ports == Ports::Kept {
            inner.ports
        } else {
            outer.ports
        },
    }
}

fn stricter(one: Depends, other: Depends) -> Depends {
    use Depends::{Address, AddressAndPort, EndpointIndependent};
    match (one, other) {
        (AddressAndPort, _) | (_, AddressAndPort) => AddressAndPort,
        (Address, _) | (_, Address) => Address,
        (EndpointIndependent, EndpointIndependent) => EndpointIndependent,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind(name.to_string()))
    }
}

/// A gateway between one inner network and the outside. Any number of hosts and other gateways may be inside.
#[derive(Debug, Clone, Copy)]
pub struct Gateway<'a> {
    /// The kind of NAT.
    pub kind: Kind,
    /// True if packets from inside to a mapped outer port come back in, with a mapped outer port as their source. Has
    /// no effect on a kind that cannot [hairpin](Kind::can_hairpin). Packets that are not hairpinned are dropped.
    pub hairpin: bool,
    /// True if another table holds port mappings made on request. Packets to a mapped port are let in.
    pub maps_ports: bool,
    /// The name of the outer interface.
    pub wan: &'a str,
    /// The name of the inner interface.
    pub lan: &'a str,
    /// The outer address, to which all inner addresses are translated. Unused by a kind that does not
    /// [translate](Kind::translates).
    pub wan_v4: Ipv4Addr,
}

/// Kernel settings that a gateway needs besides its rules: paths below `/proc/sys` with their values. A path that does
/// not exist needs no setting. The interfaces must exist already.
pub const fn sysctls() -> &'static [(&'static str, &'static str)] {
    &[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        // A hairpinned packet leaves by the interface it came in by. That must not cause ICMP redirects.
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        ("net/ipv4/conf/lan/send_redirects", "0"),
        // Bridged frames must not pass the packet filter of the kernel that has the bridge.
        ("net/bridge/bridge-nf-call-iptables", "0"),
        ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_files_and_in_arguments() {
        for kind in Kind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<Kind>(&json).unwrap(), kind);
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let unknown = "cone".parse::<Kind>().unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "there is no kind of NAT called \"cone\""
        );
    }

    #[test]
    fn one_behind_the_other_is_as_strict_as_the_stricter_one() {
        let claim = |inner: Kind, outer: Kind, hairpin| {
            chained(&inner.claims(false), &outer.claims(hairpin))
        };
        assert_eq!(claim(Kind::Prc, Kind::Prc, false), Kind::Prc.claims(false));
        assert_eq!(claim(Kind::Prc, Kind::Fc, true), Kind::Prc.claims(true));
        assert_eq!(claim(Kind::Fc, Kind::Sym, false), Kind::Sym.claims(false));
        assert_eq!(claim(Kind::Sym, Kind::Fc, true), Kind::Sym.claims(false));
        assert_eq!(claim(Kind::FcNp, Kind::Rc, true), Kind::RcNp.claims(true));
        assert_eq!(claim(Kind::UdpBlocked, Kind::Rc, false).udp, None);
        assert_eq!(claim(Kind::Prc, Kind::Pub, false), Kind::Prc.claims(false));
    }
}
