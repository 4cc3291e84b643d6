//! Finds out what a NAT is, by talking through it to a server with two addresses (as RFC 5780 does).
//!
//! The server has two addresses and two ports, so four doors, for UDP and for TCP: [`Server`]. [`measure`] asks at some of
//! them where it was seen to come from, and has others send or connect back. What was not heard counts as not let in, so
//! everything is asked more than once, and waited for with [patience](measure).
//!
//! [`judge`] compares what was found with what was claimed.

mod course;
mod server;
mod tcp;
mod udp;
mod words;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use course::Course;
pub use server::{Server, serve};

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

/// Why a probe found nothing.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// There is no way to the server from here.
    #[error("there is no way to {0}")]
    NoWay(IpAddr, #[source] io::Error),
    /// A socket could not be made or used.
    #[error("a socket fails")]
    Socket(#[from] io::Error),
    /// Neither protocol got an answer.
    #[error("the server does not answer")]
    Silent,
    /// Some doors of the server answer, this one does not.
    #[error("the server does not answer at {0}")]
    Unanswered(SocketAddr),
}

/// What lies between this host and a [server](Server) with these addresses and ports. All addresses are of one family.
///
/// A packet that did not come within `patience` after the server was known to have sent it counts as not let in, so it has
/// to be some round trips long. The whole takes about twice as long, or four times if a protocol does not get out.
pub fn measure(
    server: [IpAddr; 2],
    ports: [u16; 2],
    patience: Duration,
) -> Result<Findings, ProbeError> {
    let course = Course::new(server, ports, patience)?;
    // Before anything else moves, so that ports in sequence are seen to be.
    let tcp = tcp::Tcp::depart(&course)?;
    let udp = udp::Udp::depart(&course)?;
    let (tcp, udp) = both(|| found(&course, tcp), || found(&course, udp));
    let (tcp, udp) = (tcp?, udp?);
    let mut hairpins = [tcp, udp].into_iter().flatten().map(|found| found.1);
    if tcp.is_none() && udp.is_none() {
        return Err(ProbeError::Silent);
    }
    Ok(Findings {
        udp: udp.map(|found| found.0),
        tcp: tcp.map(|found| found.0),
        hairpin: hairpins.all(|hairpin| hairpin),
    })
}

/// The questions, over one protocol.
trait Protocol: Sized + Send {
    /// Several flows that went out one right after the other.
    fn depart(course: &Course) -> io::Result<Self>;

    /// The ports inside, and where these flows were seen to come from. Those without an answer are left out.
    fn arrived(self, course: &Course) -> Vec<(u16, SocketAddr)>;

    /// Where one socket was seen to come from at the [doors](Course::MAPPING).
    fn seen(course: &Course) -> io::Result<[Option<SocketAddr>; 3]>;

    /// Who else may come in to a socket that called one door; nobody else is [`Depends::AddressAndPort`].
    fn filtering(course: &Course) -> io::Result<Depends>;

    /// Whether a socket that called nobody is reached at its own address.
    fn uncalled(course: &Course) -> io::Result<bool>;

    /// Whether one of two sockets that call each other at their addresses outside is reached.
    fn hairpin(course: &Course) -> io::Result<bool>;
}

/// What was found over one protocol, and whether there is a hairpin. `None` if nothing gets out.
fn found<P: Protocol>(course: &Course, flows: P) -> Result<Option<(Behaviour, bool)>, ProbeError> {
    let ((flows, seen), ((filtering, uncalled), hairpin)) = both(
        || both(|| flows.arrived(course), || P::seen(course)),
        || {
            both(
                || both(|| P::filtering(course), || P::uncalled(course)),
                || P::hairpin(course),
            )
        },
    );
    if flows.is_empty() {
        return Ok(None);
    }
    let [first, other_port, other_address] = answered(course, seen?)?;
    let translated = first.ip() != course.local;
    let behaviour = Behaviour {
        translated,
        mapping: if other_port != first {
            Depends::AddressAndPort
        } else if other_address != first {
            Depends::Address
        } else {
            Depends::EndpointIndependent
        },
        // A translated socket that called nobody has no address outside that it could be reached at.
        filtering: if !translated && uncalled? {
            None
        } else {
            Some(filtering?)
        },
        ports: course::follow(&flows),
    };
    Ok(Some((behaviour, hairpin?)))
}

fn answered(course: &Course, seen: [Option<SocketAddr>; 3]) -> Result<[SocketAddr; 3], ProbeError> {
    let silent = |index: usize| ProbeError::Unanswered(course.at(Course::MAPPING[index]));
    let [one, two, three] = seen;
    Ok([
        one.ok_or_else(|| silent(0))?,
        two.ok_or_else(|| silent(1))?,
        three.ok_or_else(|| silent(2))?,
    ])
}

/// Both at the same time.
fn both<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one.join();
        (
            one.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            other,
        )
    })
}

/// Nothing if what was found is what was claimed; else what differs, a line each.
pub fn judge(claim: &Findings, found: &Findings) -> Result<(), Vec<String>> {
    let mut differences = Vec::new();
    for (protocol, claim, found) in [("UDP", claim.udp, found.udp), ("TCP", claim.tcp, found.tcp)] {
        let mut differ = |claim: &str, found: &str| {
            if claim != found {
                differences.push(format!("over {protocol} it claims to {claim}, but {found}"));
            }
        };
        match (claim, found) {
            (Some(claim), Some(found)) => compare(claim, found, &mut differ),
            (Some(_), None) => differ("let packets out", "lets none out"),
            (None, Some(_)) => differ("let nothing out", "lets packets out"),
            (None, None) => {}
        }
    }
    match (claim.hairpin, found.hairpin) {
        (true, false) => differences.push("it claims to have a hairpin, but has none".into()),
        (false, true) => differences.push("it claims to have no hairpin, but has one".into()),
        _ => {}
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences)
    }
}

fn compare(claim: Behaviour, found: Behaviour, differ: &mut impl FnMut(&str, &str)) {
    if claim.translated != found.translated {
        let [claim, found] = [claim, found].map(|behaviour| behaviour.translated);
        let [claims, _] = translation(claim);
        let [_, finds] = translation(found);
        differ(claims, finds);
    }
    if claim.mapping != found.mapping {
        differ(mapping(claim.mapping)[0], mapping(found.mapping)[1]);
    }
    if claim.filtering != found.filtering {
        differ(filtering(claim.filtering)[0], filtering(found.filtering)[1]);
    }
    if claim.ports != found.ports {
        differ(ports(claim.ports)[0], ports(found.ports)[1]);
    }
}

// Each as "it claims to ..." and as "but ...".

const fn translation(translated: bool) -> [&'static str; 2] {
    if translated {
        ["translate addresses", "translates them"]
    } else {
        ["leave addresses alone", "leaves them alone"]
    }
}

const fn mapping(mapping: Depends) -> [&'static str; 2] {
    match mapping {
        Depends::EndpointIndependent => {
            ["show one port to everybody", "shows one port to everybody"]
        }
        Depends::Address => [
            "show each address another port",
            "shows each address another port",
        ],
        Depends::AddressAndPort => [
            "show each address and port another port",
            "shows each address and port another port",
        ],
    }
}

const fn filtering(filtering: Option<Depends>) -> [&'static str; 2] {
    match filtering {
        None => [
            "let everybody in, called or not",
            "lets everybody in, called or not",
        ],
        Some(Depends::EndpointIndependent) => [
            "let everybody in to a port that called somebody",
            "lets everybody in to a port that called somebody",
        ],
        Some(Depends::Address) => ["filter by address", "filters by address"],
        Some(Depends::AddressAndPort) => {
            ["filter by address and port", "filters by address and port"]
        }
    }
}

const fn ports(ports: Ports) -> [&'static str; 2] {
    match ports {
        Ports::Kept => ["keep ports", "keeps them"],
        Ports::Sequential => [
            "give one port after the other",
            "gives one port after the other",
        ],
        Ports::Other => ["give other ports", "gives other ones"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Kind;
    use std::net::Ipv4Addr;

    fn differences(claim: Kind, found: Kind) -> Vec<String> {
        match judge(&claim.claims(false), &found.claims(false)) {
            Ok(()) => Vec::new(),
            Err(differences) => differences,
        }
    }

    #[test]
    fn what_is_as_claimed_is_not_complained_about() {
        for kind in Kind::ALL {
            assert!(differences(kind, kind).is_empty(), "{kind}");
        }
    }

    #[test]
    fn what_is_not_as_claimed_is_told_in_words() {
        assert_eq!(
            differences(Kind::Rc, Kind::Fc),
            ["UDP", "TCP"].map(|protocol| format!(
                "over {protocol} it claims to filter by address, but lets everybody in to a port that called somebody"
            ))
        );
        assert_eq!(
            differences(Kind::Prc, Kind::UdpBlocked),
            ["over UDP it claims to let packets out, but lets none out"]
        );
        assert_eq!(
            differences(Kind::Fw, Kind::Sym)[..3],
            [
                "over UDP it claims to leave addresses alone, but translates them",
                "over UDP it claims to show one port to everybody, but shows each address and port another port",
                "over UDP it claims to keep ports, but gives other ones",
            ]
        );
        assert_eq!(
            judge(&Kind::Fc.claims(true), &Kind::Fc.claims(false)),
            Err(vec![
                "it claims to have a hairpin, but has none".to_string()
            ])
        );
    }

    #[test]
    fn on_one_machine_there_is_no_nat() {
        let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)].map(IpAddr::V4);
        // Which ports are free is not known before.
        let (ports, server) = (20_000..30_000)
            .step_by(2)
            .map(|port| [port, port + 1])
            .find_map(|ports| Some((ports, Server::bind(addresses, ports).ok()?)))
            .unwrap();
        thread::spawn(|| server.run());
        let found = measure(addresses, ports, Duration::from_millis(300)).unwrap();
        assert_eq!(found, Kind::Pub.claims(false));
    }

    #[test]
    fn a_server_that_is_not_there_is_told_from_a_nat() {
        let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)].map(IpAddr::V4);
        let nobody = measure(addresses, [9, 10], Duration::from_millis(50));
        assert!(matches!(nobody, Err(ProbeError::Silent)), "{nobody:?}");
    }
}
