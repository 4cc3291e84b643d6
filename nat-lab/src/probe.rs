//! Measures the behaviour of a NAT by exchanging packets with a server that has two addresses (as in RFC 5780).
//!
//! The server has two addresses and two ports, so four endpoints, each for UDP and TCP: [`Server`]. [`measure`] asks
//! some of them which source address they saw, and has others send or connect back. Packets that do not arrive count as
//! filtered, so every question is repeated and given a [patience](measure).
//!
//! [`judge`] compares the findings with a claim.

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
    /// Independent of the destination.
    EndpointIndependent,
    /// Depends on the remote address.
    Address,
    /// Depends on the remote address and port.
    AddressAndPort,
}

/// How outer ports are derived from inner ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// The outer port equals the inner port.
    Kept,
    /// Outer ports differ from inner ones and are assigned sequentially.
    Sequential,
    /// Outer ports differ from inner ones, in no sequence.
    Other,
}

/// The behaviour of everything between a host and the internet, for one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// True if the outer address differs from the host's own.
    pub translated: bool,
    /// What the outer port depends on.
    pub mapping: Depends,
    /// What the filter depends on. `None` if packets from anywhere are let in, even to a port that has sent nothing.
    pub filtering: Option<Depends>,
    /// How the outer port is derived from the inner one.
    pub ports: Ports,
}

/// What a probe found. `None` for a protocol that does not get out at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Findings over UDP.
    pub udp: Option<Behaviour>,
    /// Findings over TCP.
    pub tcp: Option<Behaviour>,
    /// True if packets to the outer address of another socket of the same host arrive there.
    pub hairpin: bool,
}

/// Why a probe failed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No route to the server.
    #[error("there is no way to {0}")]
    NoWay(IpAddr, #[source] io::Error),
    /// A socket could not be opened or used.
    #[error("a socket fails")]
    Socket(#[from] io::Error),
    /// The server answered over neither protocol.
    #[error("the server does not answer")]
    Silent,
    /// Some endpoints of the server answer, but this one does not.
    #[error("the server does not answer at {0}")]
    Unanswered(SocketAddr),
}

/// Measures what lies between this host and a [server](Server) with these addresses and ports. All addresses are of one
/// family.
///
/// A packet that does not arrive within `patience` after the server is known to have sent it counts as filtered, so
/// `patience` must be several round trips long. The measurement takes about twice as long, or four times as long if a
/// protocol does not get out.
pub fn measure(
    server: [IpAddr; 2],
    ports: [u16; 2],
    patience: Duration,
) -> Result<Findings, ProbeError> {
    let course = Course::new(server, ports, patience)?;
    // Comes before all other traffic, so that sequential ports are recognised.
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

/// Asks the questions of a measurement over one protocol.
trait Protocol: Sized + Send {
    /// Opens several flows in quick succession.
    fn depart(course: &Course) -> io::Result<Self>;

    /// Returns the inner port of each flow and the source that the server saw. Flows without an answer are left out.
    fn arrived(self, course: &Course) -> Vec<(u16, SocketAddr)>;

    /// Returns the source address of one socket as seen at each of the [endpoints](Course::MAPPING).
    fn seen(course: &Course) -> io::Result<[Option<SocketAddr>; 3]>;

    /// Returns which sources reach a socket that contacted one endpoint. [`Depends::AddressAndPort`] means only that
    /// endpoint.
    fn filtering(course: &Course) -> io::Result<Depends>;

    /// True if a socket that has sent nothing can be reached at its own address.
    fn uncalled(course: &Course) -> io::Result<bool>;

    /// True if, of two sockets that contact each other at their outer addresses, at least one is reached.
    fn hairpin(course: &Course) -> io::Result<bool>;
}

/// Returns the findings over one protocol, and whether it hairpins. `None` if nothing gets out.
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
        // A translated socket that has sent nothing has no outer address at which it could be reached.
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

/// Runs both at the same time.
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

/// Compares the findings with a claim. The error lists the differences, one line each.
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

// Each function returns the phrase after "it claims to ..." and the one after "but ...".

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
        // Searches for free ports, as it is not known in advance which ones are free.
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
