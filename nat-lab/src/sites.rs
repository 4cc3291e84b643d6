//! The places of a matrix: those for one of two peers, and a few that both peers share.

use std::collections::BTreeMap;

use crate::nat::Kind;
use crate::results::{Best, Carrier};
use crate::topology::{Gateway, Host, Mapping, Topology};
use crate::wire::Conditions;

/// A place for one peer: one host, called `host`, and the gateways in front of it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The name used in tables.
    pub name: &'static str,
    /// A one-line description.
    pub about: &'static str,
    /// Gateways, the innermost first.
    pub gateways: Vec<Kind>,
    /// The protocol by which the innermost gateway takes requests for port mappings, if any.
    pub mapping: Option<Mapping>,
    /// Whether the host has IPv4, and whether it has IPv6.
    pub ip: [bool; 2],
}

/// Returns all places, in the order of the tables.
pub fn all() -> Vec<Site> {
    let plain = |name, about, gateways: &[Kind]| Site {
        name,
        about,
        gateways: gateways.to_vec(),
        mapping: None,
        ip: [true, false],
    };
    let kind = |kind: Kind| plain(kind.name(), kind.about(), &[kind]);
    vec![
        plain("pub", "on the internet itself", &[]),
        kind(Kind::Fc),
        kind(Kind::Rc),
        kind(Kind::Prc),
        kind(Kind::FcNp),
        kind(Kind::RcNp),
        kind(Kind::PrcNp),
        kind(Kind::Sym),
        kind(Kind::SymSeq),
        plain(
            "prc+prc",
            "a home's NAT behind a carrier's, both port-restricted",
            &[Kind::Prc, Kind::Prc],
        ),
        plain(
            "fc+sym",
            "a home's full cone behind a carrier's symmetric NAT",
            &[Kind::Fc, Kind::Sym],
        ),
        kind(Kind::UdpBlocked),
        Site {
            mapping: Some(Mapping::Upnp),
            ..plain(
                "sym+upnp",
                "symmetric, and maps ports by UPnP",
                &[Kind::Sym],
            )
        },
        Site {
            mapping: Some(Mapping::Pcp),
            ..plain("sym+pcp", "symmetric, and maps ports by PCP", &[Kind::Sym])
        },
        Site {
            ip: [false, true],
            ..plain("v6", "IPv6 alone, behind a firewall", &[Kind::Fw])
        },
        Site {
            ip: [true, true],
            ..plain(
                "dual",
                "IPv4 behind a port-restricted NAT, IPv6 behind a firewall",
                &[Kind::Prc],
            )
        },
    ]
}

impl Site {
    /// Returns the topology: the host is `host`, the gateways are `home` and `carrier`, and `link` is the link to the
    /// internet.
    pub fn topology(&self, link: Conditions) -> Topology {
        let mut topology = Topology::default();
        let names = ["home", "carrier"];
        for (at, kind) in self.gateways.iter().enumerate() {
            let outermost = at + 1 == self.gateways.len();
            let gateway = Gateway {
                nat: *kind,
                behind: (!outermost).then(|| names[at + 1].to_owned()),
                hairpin: false,
                mapping: self.mapping.filter(|_| at == 0),
                link: outermost.then_some(link),
            };
            topology.gateways.insert(names[at].to_owned(), gateway);
        }
        let behind = (!self.gateways.is_empty()).then(|| names[0].to_owned());
        let host = Host {
            link: behind.is_none().then_some(link),
            behind,
            ipv4: self.ip[0],
            ipv6: self.ip[1],
        };
        topology.hosts.insert("host".to_owned(), host);
        topology
    }

    /// True if peers at this place can send over `carrier` at all.
    pub fn gets_out(&self, carrier: Carrier) -> bool {
        carrier != Carrier::Quic || self.gateways.iter().all(|kind| kind.passes_udp())
    }

    /// The kind of the outermost gateway, which decides reachability over IPv4.
    fn outermost(&self) -> Kind {
        self.gateways.last().copied().unwrap_or(Kind::Pub)
    }
}

/// No place has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no place \"{0}\"; `list` names all")]
pub struct UnknownPlace(pub String);

/// A place that both peers share: its name in tables, its description, and its topology with hosts `one` and `two`.
pub type Shared = (&'static str, &'static str, Topology);

/// Returns the named places of both sorts, in the order of the tables. Returns all of them if no name is given.
///
/// # Errors
///
/// No place has one of the names.
pub fn select(only: &[String], link: Conditions) -> Result<(Vec<Site>, Vec<Shared>), UnknownPlace> {
    let (mut sites, mut shared) = (all(), shared(link));
    let is_known = |name: &&String| {
        sites.iter().any(|site| site.name == *name) || shared.iter().any(|(it, ..)| it == name)
    };
    if let Some(unknown) = only.iter().find(|name| !is_known(name)) {
        return Err(UnknownPlace(unknown.clone()));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|it| it == name);
    sites.retain(|site| wanted(site.name));
    shared.retain(|(name, ..)| wanted(name));
    Ok((sites, shared))
}

/// Returns the places that both peers share.
pub fn shared(link: Conditions) -> Vec<Shared> {
    let gateway = |nat, behind: Option<&str>, hairpin| Gateway {
        nat,
        behind: behind.map(str::to_owned),
        hairpin,
        mapping: None,
        link: behind.is_none().then_some(link),
    };
    let host = |behind: &str| Host {
        behind: Some(behind.to_owned()),
        ..Host::default()
    };
    let topology = |gateways: &[(&str, Gateway)], homes: [&str; 2]| Topology {
        gateways: gateways
            .iter()
            .map(|(name, gateway)| ((*name).to_owned(), gateway.clone()))
            .collect(),
        hosts: BTreeMap::from([
            ("one".to_owned(), host(homes[0])),
            ("two".to_owned(), host(homes[1])),
        ]),
    };
    let home = topology(&[("home", gateway(Kind::Prc, None, false))], ["home"; 2]);
    let carrier = |hairpin| {
        let homes = [
            ("home1", gateway(Kind::Prc, Some("carrier"), false)),
            ("home2", gateway(Kind::Prc, Some("carrier"), false)),
            ("carrier", gateway(Kind::Prc, None, hairpin)),
        ];
        topology(&homes, ["home1", "home2"])
    };
    vec![
        ("one-home", "both in one home", home),
        (
            "one-carrier",
            "two homes behind one carrier's NAT, without hairpinning",
            carrier(false),
        ),
        (
            "one-carrier-hairpin",
            "the same, with hairpinning",
            carrier(true),
        ),
    ]
}

/// Returns the best path that theory allows between two places, without port prediction.
///
/// A peer with endpoint-independent mapping has one outer port, which can be sent to the other peer. Its filter lets
/// the other peer in once it has sent a packet there. A peer whose mapping depends on the destination has no such port,
/// but it can itself reach a peer whose filter lets it in by address alone. Over TCP the same holds by simultaneous
/// open.
pub fn best(a: &Site, b: &Site, carrier: Carrier) -> Best {
    let over = |carrier| is_direct(a, b, carrier);
    let direct = match carrier {
        Carrier::Both => over(Carrier::Tcp) || over(Carrier::Quic),
        one => over(one),
    };
    if direct { Best::Direct } else { Best::Relay }
}

fn is_direct(a: &Site, b: &Site, carrier: Carrier) -> bool {
    // IPv6 is not translated, so each peer's address can be sent to the other.
    if a.ip[1] && b.ip[1] {
        return true;
    }
    if !a.ip[0] || !b.ip[0] {
        return false;
    }
    let [first, second] = [a, b].map(Site::outermost);
    let blocked = |kind| kind == Kind::UdpBlocked;
    if carrier == Carrier::Quic && (blocked(first) || blocked(second)) {
        return false;
    }
    let symmetric = |kind: Kind| matches!(kind, Kind::Sym | Kind::SymSeq);
    // A port mapping is as good as a public address.
    let open = |site: &Site| {
        let lets_in = matches!(
            site.outermost(),
            Kind::Pub | Kind::Fc | Kind::FcNp | Kind::Rc | Kind::RcNp
        );
        let all: bool = site.gateways.len() < 2;
        site.mapping.is_some() || (lets_in && all)
    };
    let told = !symmetric(first) && !symmetric(second);
    told || open(a) || open(b)
}

/// Returns the best path that theory allows two peers that share a place.
pub fn best_shared(place: &str) -> Best {
    // Without hairpinning, the carrier's NAT lets no packet from inside back in, and the two homes do not know each
    // other's addresses behind it.
    if place == "one-carrier" {
        Best::Relay
    } else {
        Best::Direct
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> Site {
        all().into_iter().find(|site| site.name == name).unwrap()
    }

    #[test]
    fn theory_is_as_in_the_books() {
        for (a, b, carrier, direct) in [
            ("prc", "prc", Carrier::Quic, true),
            ("prc", "prc-np", Carrier::Tcp, true),
            ("prc", "sym", Carrier::Both, false),
            ("rc", "sym", Carrier::Quic, true),
            ("fc-np", "sym-seq", Carrier::Quic, true),
            ("sym", "sym", Carrier::Quic, false),
            ("sym", "sym+pcp", Carrier::Quic, true),
            ("udp-blocked", "prc", Carrier::Quic, false),
            ("udp-blocked", "prc", Carrier::Both, true),
            ("udp-blocked", "sym", Carrier::Both, false),
            ("fc+sym", "prc+prc", Carrier::Both, false),
            ("v6", "dual", Carrier::Tcp, true),
            ("v6", "prc", Carrier::Both, false),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                let found = best(&site(a), &site(b), carrier);
                let wanted = if direct { Best::Direct } else { Best::Relay };
                assert_eq!(found, wanted, "{a} x {b}, {carrier:?}");
            }
        }
    }

    #[test]
    fn every_place_can_be_built() {
        for site in all() {
            assert_eq!(site.topology(Conditions::default()).check(), Ok(()));
        }
        for (_, _, topology) in shared(Conditions::default()) {
            assert_eq!(topology.check(), Ok(()));
        }
    }
}
