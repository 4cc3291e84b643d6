//! What a matrix is made of: the places that one of two peers can be at, and the few where both are at one.

use std::collections::BTreeMap;

use crate::nat::Kind;
use crate::results::{Best, Carrier};
use crate::topology::{Gateway, Host, Mapping, Topology};
use crate::wire::Conditions;

/// A place that a peer can be at: one host, called `host`, and what it is behind.
#[derive(Debug, Clone)]
pub struct Site {
    /// What tables call it.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Gateways, the innermost first.
    pub gateways: Vec<Kind>,
    /// How the innermost one lets its host ask for a port.
    pub mapping: Option<Mapping>,
    /// The host has IPv4, and IPv6.
    pub ip: [bool; 2],
}

/// All places, in the order of the tables.
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
    /// Its topology: the host is `host`, gateways are `home` and `carrier`, and the link to the internet is like this.
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

    /// Whether anything of this kind gets out at all.
    pub fn gets_out(&self, carrier: Carrier) -> bool {
        carrier != Carrier::Quic || self.gateways.iter().all(|kind| kind.passes_udp())
    }

    /// The NAT that matters outside, for IPv4.
    fn outermost(&self) -> Kind {
        self.gateways.last().copied().unwrap_or(Kind::Pub)
    }
}

/// There is no place of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no place \"{0}\"; `list` names all")]
pub struct UnknownPlace(pub String);

/// A place that both peers share: what tables call it, what it is, and its topology with hosts `one` and `two`.
pub type Shared = (&'static str, &'static str, Topology);

/// Places of both sorts by name, in the order of the tables; all of them if none is named.
///
/// # Errors
///
/// A name that no place has.
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

/// Where both peers share a place.
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

/// What theory allows two places, without guessing ports.
///
/// Over UDP, who maps independently of the peer can be told where to come, and is let in once he has sent something
/// there. With another port for each peer nobody can be told; but such a peer comes itself, to whoever lets it in by its
/// address alone. Over TCP it is the same by simultaneous open.
pub fn best(a: &Site, b: &Site, carrier: Carrier) -> Best {
    let over = |carrier| is_direct(a, b, carrier);
    let direct = match carrier {
        Carrier::Both => over(Carrier::Tcp) || over(Carrier::Quic),
        one => over(one),
    };
    if direct { Best::Direct } else { Best::Relay }
}

fn is_direct(a: &Site, b: &Site, carrier: Carrier) -> bool {
    // Behind a firewall without translation everybody can be told.
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
    // A mapped port is as good as a public address.
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

/// What theory allows two peers who share a place.
pub fn best_shared(place: &str) -> Best {
    // Without hairpinning nothing that a carrier's NAT is sent from inside comes in again, and homes behind it do not
    // know each other's addresses there.
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
