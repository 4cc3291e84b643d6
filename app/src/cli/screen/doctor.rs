//! The findings about the network as text, one a line, with what each means for transfers and what to do.

use std::collections::BTreeSet;
use std::time::Duration;

use handover_core::dial_back::Hint;
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::circuit::Status;
use handover_transports::libp2p::{BootstrapNode, Outcome};

use super::Tone;
use super::escape::fit;
use super::units::{count, time_of_day, took};
use crate::cli::doctor::{
    Clock, Dht, Diagnosis, Mapping, Names, Nat, Obstacle, Outlook, Presence, Reach, Tcp, Udp,
};

/// Maximum width of an address, in columns.
const ADDRESS: usize = 160;

/// A finding and its tone.
pub(crate) type Finding = (Tone, String);

/// Message at the start. `most` is the maximum duration.
pub(crate) fn looking(most: Duration) -> String {
    let most = count(most.as_secs(), "second", "seconds");
    format!("looking at the network; this takes up to {most}")
}

/// Message about the transfers to expect.
pub(crate) fn summary(expect: Outlook) -> &'static str {
    match expect {
        Outlook::Direct => "\nDirect transfers: likely",
        Outlook::ReachablePeers => {
            "\nDirect transfers: only with peers that can be reached; through relays with others"
        }
        Outlook::Relays => "\nDirect transfers: none, through relays only",
        Outlook::Unknown => "\nDirect transfers: unknown, too little was found out",
        Outlook::LocalNetwork => "\nDirect transfers: only this local network",
    }
}

/// All findings. `verbose` adds each address of the bootstrap nodes, each node that dialled back, and each relay that
/// refused.
pub(crate) fn findings(of: &Diagnosis, verbose: bool) -> Vec<Finding> {
    // If no node was asked, the lack of answers means nothing.
    let asked = matches!(of.dht, Dht::Answers(_)) && of.reachable > Reach::Assumed;
    let mut all = addresses(of);
    all.extend(bootstrap(of));
    if verbose {
        all.extend(nodes(&of.bootstrap));
    }
    all.extend(names(of.names).filter(|_| of.obstacle.is_none()));
    all.push(dht(of.dht));
    all.extend((asked || of.nat != Nat::Unknown).then(|| nat(of.nat)));
    all.extend(tcp(of.tcp));
    all.extend(udp(of.udp).filter(|_| asked || of.udp != Udp::Unknown));
    all.extend(reach(of.reachable).filter(|_| asked || of.reachable != Reach::Unknown));
    all.extend(hints(&of.hints));
    if verbose {
        all.extend(of.hints.iter().map(who_dialled_back));
    }
    all.extend(mapping(of.port_mapping));
    all.extend(relays(of));
    if verbose {
        all.extend(of.refusals.iter().map(refusal));
    }
    all.push(clock(of.clock));
    all
}

fn good(text: impl AsRef<str>) -> Finding {
    (Tone::Good, format!("✓ {}", text.as_ref()))
}

fn mixed(text: impl AsRef<str>) -> Finding {
    (Tone::Plain, format!("! {}", text.as_ref()))
}

fn bad(text: impl AsRef<str>) -> Finding {
    (Tone::Bad, format!("✗ {}", text.as_ref()))
}

fn addresses(of: &Diagnosis) -> Vec<Finding> {
    if (of.ipv4, of.ipv6) == (Presence::None, Presence::None) {
        return vec![mixed(
            "No address: with --hide-ip this computer listens nowhere; without it, it has no network.",
        )];
    }
    let ipv4 = match of.ipv4 {
        Presence::Loopback => mixed("IPv4: on this computer only."),
        Presence::Public => good("IPv4: a public address."),
        Presence::Private => good("IPv4: an address of the local network."),
        Presence::None => mixed("IPv4: no address. Peers that have nothing else need a relay."),
    };
    let ipv6 = match of.ipv6 {
        Presence::Public => {
            good("IPv6: a public address. No NAT is in the way to peers that have one too.")
        }
        Presence::Private => mixed("IPv6: within the local network only."),
        Presence::None | Presence::Loopback => mixed(
            "IPv6: no address. Where the provider has it, turning it on in the router helps direct transfers.",
        ),
    };
    vec![ipv4, ipv6]
}

fn bootstrap(of: &Diagnosis) -> Option<Finding> {
    let nodes = count(of.bootstrap.len() as u64, "node", "nodes");
    let reached = format!("Bootstrap: {} of {nodes} reached", of.bootstrap_reached());
    if of.bootstrap.is_empty() {
        return None;
    }
    let Some(why) = of.obstacle else {
        return Some(good(format!("{reached}.")));
    };
    let (why, advice) = obstacle(why);
    Some(bad(format!(
        "{reached}, so only this network is searched.\n  {why}\n  {advice}"
    )))
}

/// Explains why no bootstrap node was reached, and what to do.
fn obstacle(why: Obstacle) -> (&'static str, &'static str) {
    match why {
        Obstacle::Portal => (
            "Something on the way seems to answer in their place, as a captive portal does (a network that wants a login first).",
            "Open any web page in a browser, log in there, and look again.",
        ),
        Obstacle::OtherProtocols => (
            "The nodes answer, but speak other transports, multiplexers or security protocols (WebSocket or mplex, for example).",
            "Name a node with --bootstrap that speaks TCP with Yamux, or QUIC. -v tells what each address answered.",
        ),
        Obstacle::OtherNodes => (
            "Other nodes answer at their addresses.",
            "Check the identities after /p2p/ in what is given with --bootstrap. -v tells which nodes answered.",
        ),
        Obstacle::Cut => (
            "Connections are taken and then cut, by the nodes or by something on the way: a firewall, a proxy or a captive portal.",
            "Check the firewall, open a web page in a browser, or name another node with --bootstrap.",
        ),
        Obstacle::Silence => (
            "Connections are taken, and then nothing comes on them: the nodes hang, or something on the way takes what is sent.",
            "Name another node with --bootstrap.",
        ),
        Obstacle::Refused => (
            "Connections are refused: nothing listens there, or a firewall refuses them.",
            "Check the addresses and the firewall, or name another node with --bootstrap.",
        ),
        Obstacle::Names => (
            "Their names can't be resolved.",
            "Check the name servers of this computer and the internet connection, or name a node by its IP address with --bootstrap.",
        ),
        Obstacle::NoNetwork => (
            "There is no way to the internet from here.",
            "Check the internet connection.",
        ),
        Obstacle::NoAnswer => (
            "Nothing came back from them.",
            "Check the internet connection and the firewall, or name another node with --bootstrap.",
        ),
    }
}

/// Lists the dial outcome of each address of the bootstrap nodes.
fn nodes(nodes: &[BootstrapNode]) -> Vec<Finding> {
    let line = |(address, outcome): &(Multiaddr, Option<Outcome>)| {
        let came = match outcome {
            None => "no answer in this time, or another address was faster".to_string(),
            Some(Outcome::Connected) => "connected".to_string(),
            Some(Outcome::Failed(reason)) => reason.to_string(),
            Some(Outcome::OtherPeer(peer)) => format!("another node answered, {peer}"),
        };
        let address = fit(&address.to_string(), ADDRESS);
        format!("\n      {address}: {came}")
    };
    let node = |node: &BootstrapNode| {
        let lines: String = node.addresses.iter().map(line).collect();
        (Tone::Plain, format!("    {}{lines}", node.peer))
    };
    nodes.iter().map(node).collect()
}

fn names(names: Names) -> Option<Finding> {
    match names {
        Names::Off | Names::Unknown => None,
        Names::Work => Some(good("DNS: names are resolved.")),
        Names::Fail => Some(mixed(
            "DNS: no name could be resolved. Nodes are only reached that are named by their IP addresses.\n  \
             Check the name servers of this computer.",
        )),
    }
}

fn tcp(tcp: Tcp) -> Option<Finding> {
    match tcp {
        Tcp::Unknown | Tcp::Works => None,
        Tcp::WebOnly => Some(mixed(
            "TCP: only the ports of the web (443 and 80) seem to get out. Nodes and relays are reached where they listen there;\n  \
             direct transfers are not to be expected.",
        )),
    }
}

fn dht(dht: Dht) -> Finding {
    match dht {
        Dht::Off => mixed("DHT: left out by the options, so only this network is searched."),
        Dht::Late => mixed("DHT: no answer in the time that it was given. --wait gives it more."),
        Dht::Silent => bad(
            "DHT: nobody answers. Short codes are found on this network only; send with --ticket to name addresses.",
        ),
        Dht::Hangs => bad(
            "DHT: nodes of it are reached, but it does not answer. Short codes are found on this network only; send with --ticket\n  \
             to name addresses, or name another node with --bootstrap.",
        ),
        Dht::Answers(time) => good(format!(
            "DHT: it answers, after {}. Codes are found from anywhere.",
            took(time)
        )),
    }
}

fn nat(nat: Nat) -> Finding {
    match nat {
        Nat::None => good("NAT: none. Others see this computer at its own address."),
        Nat::PortKept => good("NAT: the port is kept. Hole punching works."),
        Nat::OnePort => good("NAT: one port for everybody. Hole punching works."),
        Nat::Unknown => {
            mixed("NAT: too few nodes have told where they see this computer to say what it does.")
        }
        Nat::Symmetric => mixed(
            "NAT: a new port for everybody (symmetric). Hole punching mostly fails, relays will be used.\n  \
             IPv6 gets around that, or a port that the router forwards (by PCP, NAT-PMP or UPnP, or a rule there and --listen).",
        ),
    }
}

fn udp(udp: Udp) -> Option<Finding> {
    Some(match udp {
        Udp::Off => return None,
        Udp::Unknown => mixed("UDP: unknown, as no node was met that speaks QUIC."),
        Udp::Blocked => mixed(
            "UDP: it seems to be blocked: nodes that speak QUIC answer over TCP alone. TCP is used, and hole punching fails more often.\n  \
             Let UDP out in the firewall, if that is yours.",
        ),
        Udp::Works => good("UDP: it gets out."),
    })
}

fn reach(reach: Reach) -> Option<Finding> {
    Some(match reach {
        Reach::Off => return None,
        Reach::Assumed => good(
            "From outside: every address counts as reachable, as this is a network of its own.",
        ),
        Reach::Unknown => mixed("From outside: nobody has tested yet whether others get in."),
        Reach::Nobody => mixed(
            "From outside: nobody gets in. Direct transfers need hole punching, or a peer that can be reached.",
        ),
        Reach::Acquaintances => good(
            "From outside: nodes that were dialled before get in. Whether others do is not known yet.",
        ),
        Reach::Strangers => good("From outside: everybody gets in. Relays are not needed."),
    })
}

/// Summarises the answers of nodes that were asked to dial back.
fn hints(hints: &[Hint]) -> Option<Finding> {
    let nodes = |nodes: fn(&Hint) -> &[PeerId]| {
        let nodes: BTreeSet<&PeerId> = hints.iter().flat_map(nodes).collect();
        nodes.len() as u64
    };
    let (reached, not_reached) = (nodes(|it| &it.reached), nodes(|it| &it.not_reached));
    let are = |number| {
        count(
            number,
            "node that was dialled before says",
            "nodes that were dialled before say",
        )
    };
    let mut said = Vec::new();
    if reached > 0 {
        said.push(format!("{} that dialling back works", are(reached)));
    }
    if not_reached > 0 {
        let it = if reached > 0 { "it" } else { "dialling back" };
        said.push(format!("{} that {it} fails", are(not_reached)));
    }
    if said.is_empty() {
        return None;
    }
    let denied = if hints.iter().any(|hint| hint.is_denied) {
        "\n  Where several of them agree that nobody gets in, a firewall seems to be in the way, and the address is not announced."
    } else {
        ""
    };
    let said = said.join(", ");
    Some(mixed(format!(
        "From outside: {said}. That is a hint, and no proof.{denied}"
    )))
}

/// Lists what each node said about an address.
fn who_dialled_back(hint: &Hint) -> Finding {
    let line = |node: &PeerId, came: &str| format!("\n      {node}: {came}");
    let reached = hint
        .reached
        .iter()
        .map(|node| line(node, "dialling back works"));
    let not_reached = hint
        .not_reached
        .iter()
        .map(|node| line(node, "dialling back fails"));
    let lines: String = reached.chain(not_reached).collect();
    let address = fit(&hint.address.to_string(), ADDRESS);
    (Tone::Plain, format!("    {address}{lines}"))
}

fn mapping(mapping: Mapping) -> Option<Finding> {
    Some(match mapping {
        Mapping::Off => return None,
        Mapping::Asked => mixed("Port mapping: no router has answered yet."),
        Mapping::Mapped => good("Port mapping: the router forwards a port, so everybody gets in."),
        Mapping::Lost => mixed("Port mapping: the router forwarded a port, and took it back."),
        Mapping::NoRouter => mixed(
            "Port mapping: no router forwards ports. Turning PCP, NAT-PMP or UPnP on in the router helps direct transfers.",
        ),
        Mapping::RouterNotPublic => mixed(
            "Port mapping: the router has no public address itself (a carrier's NAT, or a second router), so its ports help nobody.",
        ),
    })
}

fn relays(of: &Diagnosis) -> Option<Finding> {
    match of.relays {
        0 if !of.relays_needed || !matches!(of.dht, Dht::Answers(_)) => None,
        0 => Some(mixed(
            "Relays: none has taken this computer on yet. Who can't get in directly will not reach it.\n  \
             Name one with --relay, or look again with a longer --wait.",
        )),
        held => Some(good(format!(
            "Relays: {} to this computer for who can't get in directly.",
            count(held as u64, "leads", "lead")
        ))),
    }
}

fn refusal((relay, status): &(PeerId, Status)) -> Finding {
    let status = status.name();
    (Tone::Plain, format!("    {relay}: refused ({status})"))
}

fn clock(clock: Clock) -> Finding {
    let now = time_of_day(clock.now);
    let Some(passed) = clock.passed else {
        return mixed(format!(
            "Date: {now} (UTC) by this computer's clock. Short codes are found while both clocks are at most a week apart."
        ));
    };
    let passed = time_of_day(passed);
    bad(format!(
        "Date: {now} (UTC) by this computer's clock, but a file here was written on {passed}: the clock seems to be behind.\n  \
         Set it right. Short codes are found while both clocks are at most a week apart."
    ))
}

#[cfg(test)]
mod tests {
    use handover_core::Keypair;
    use handover_transports::libp2p::Reason;

    use super::*;

    fn home() -> Diagnosis {
        Diagnosis {
            ipv4: Presence::Private,
            ipv6: Presence::Public,
            bootstrap: nodes([Some(Outcome::Connected), None]),
            obstacle: None,
            names: Names::Work,
            dht: Dht::Answers(Duration::from_millis(1240)),
            nat: Nat::PortKept,
            tcp: Tcp::Works,
            udp: Udp::Works,
            reachable: Reach::Nobody,
            hints: Vec::new(),
            port_mapping: Mapping::NoRouter,
            relays: 3,
            refusals: Vec::new(),
            relays_needed: true,
            clock: Clock::judge(1_800_000_000, None),
            expect: Outlook::Direct,
            undecided: false,
        }
    }

    /// Two nodes, each with one address.
    fn nodes(outcomes: [Option<Outcome>; 2]) -> Vec<BootstrapNode> {
        let node = |(number, outcome): (u8, Option<Outcome>)| BootstrapNode {
            peer: peer(number),
            addresses: vec![(at(number), outcome)],
        };
        (1..).zip(outcomes).map(node).collect()
    }

    fn peer(number: u8) -> PeerId {
        let keys = Keypair::ed25519_from_bytes([number; 32]).unwrap();
        keys.public().to_peer_id()
    }

    fn at(number: u8) -> Multiaddr {
        format!("/ip4/203.0.113.{number}/tcp/4001").parse().unwrap()
    }

    fn told(of: &Diagnosis) -> String {
        let mut lines: Vec<String> = findings(of, false)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        lines.push(summary(of.expect).to_string());
        lines.join("\n")
    }

    #[test]
    fn at_home() {
        insta::assert_snapshot!(told(&home()));
    }

    #[test]
    fn in_a_bad_place() {
        insta::assert_snapshot!(told(&Diagnosis {
            ipv6: Presence::None,
            names: Names::Fail,
            tcp: Tcp::WebOnly,
            nat: Nat::Symmetric,
            udp: Udp::Blocked,
            port_mapping: Mapping::RouterNotPublic,
            relays: 0,
            expect: Outlook::ReachablePeers,
            ..home()
        }));
    }

    #[test]
    fn cut_off() {
        insta::assert_snapshot!(told(&Diagnosis {
            ipv6: Presence::Private,
            bootstrap: nodes([Some(Outcome::Failed(Reason::TimedOut)), None]),
            obstacle: Some(Obstacle::NoAnswer),
            names: Names::Unknown,
            dht: Dht::Silent,
            nat: Nat::Unknown,
            udp: Udp::Unknown,
            reachable: Reach::Unknown,
            relays: 0,
            expect: Outlook::LocalNetwork,
            ..home()
        }));
    }

    #[test]
    fn every_other_finding() {
        let mut lines = Vec::new();
        lines.extend(addresses(&Diagnosis {
            ipv4: Presence::None,
            ipv6: Presence::None,
            ..home()
        }));
        lines.extend(addresses(&Diagnosis {
            ipv4: Presence::Public,
            ..home()
        }));
        lines.extend(addresses(&Diagnosis {
            ipv4: Presence::None,
            ..home()
        }));
        lines.extend(addresses(&Diagnosis {
            ipv4: Presence::Loopback,
            ..home()
        }));
        lines.extend([dht(Dht::Off), dht(Dht::Late), dht(Dht::Hangs)]);
        lines.extend([Nat::None, Nat::OnePort, Nat::Unknown].map(nat));
        lines.extend([Udp::Off, Udp::Unknown].into_iter().filter_map(udp));
        let reaches = [
            Reach::Off,
            Reach::Assumed,
            Reach::Unknown,
            Reach::Acquaintances,
            Reach::Strangers,
        ];
        lines.extend(reaches.into_iter().filter_map(reach));
        let mappings = [Mapping::Off, Mapping::Asked, Mapping::Mapped, Mapping::Lost];
        lines.extend(mappings.into_iter().filter_map(mapping));
        lines.extend(relays(&Diagnosis {
            relays: 1,
            ..home()
        }));
        lines.push(clock(Clock::judge(1_800_000_000, Some(1_800_200_000))));
        for expect in [Outlook::Relays, Outlook::Unknown] {
            lines.push((Tone::Strong, summary(expect).to_string()));
        }
        let lines: Vec<String> = lines.into_iter().map(|(_, text)| text).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn every_reason_why_no_bootstrap_node_is_reached_says_what_to_do() {
        let all = [
            Obstacle::Portal,
            Obstacle::OtherProtocols,
            Obstacle::OtherNodes,
            Obstacle::Cut,
            Obstacle::Silence,
            Obstacle::Refused,
            Obstacle::Names,
            Obstacle::NoNetwork,
            Obstacle::NoAnswer,
        ];
        let line = |why| {
            let (why, advice) = obstacle(why);
            format!("{why}\n  {advice}")
        };
        insta::assert_snapshot!(all.map(line).join("\n"));
    }

    #[test]
    fn the_word_of_nodes_is_told_as_a_hint_and_with_v_whose_it_is() {
        let hint = |reached: &[u8], not_reached: &[u8], is_denied| Hint {
            address: at(1),
            reached: reached.iter().copied().map(peer).collect(),
            not_reached: not_reached.iter().copied().map(peer).collect(),
            is_denied,
        };
        let some = [
            hint(&[1], &[], false),
            hint(&[1, 2], &[3], false),
            hint(&[], &[1, 2, 3], true),
        ];
        let of = |hint| Diagnosis {
            hints: vec![hint],
            refusals: vec![(peer(4), Status::ReservationRefused)],
            ..home()
        };
        let told = some.map(|hint| {
            let usual: Vec<Finding> = findings(&home(), true);
            let all = findings(&of(hint), true).into_iter();
            let new = all.filter(|finding| !usual.contains(finding));
            new.map(|(_, text)| text).collect::<Vec<_>>().join("\n")
        });
        insta::assert_snapshot!(told.join("\n\n"));
    }

    #[test]
    fn each_address_is_explained() {
        let outcomes = [
            None,
            Some(Outcome::Connected),
            Some(Outcome::OtherPeer(peer(9))),
            Some(Outcome::Failed(Reason::Http)),
            Some(Outcome::Failed(Reason::NoMuxer)),
            Some(Outcome::Failed(Reason::Unnamed)),
            Some(Outcome::Failed(Reason::Refused)),
            Some(Outcome::Failed(Reason::Silent)),
            Some(Outcome::Failed(Reason::TimedOut)),
            Some(Outcome::Failed(Reason::UnknownKey)),
        ];
        let addresses = (1..).map(at).zip(outcomes).collect();
        let node = BootstrapNode {
            peer: peer(1),
            addresses,
        };
        let lines = super::nodes(&[node]).into_iter().map(|(_, text)| text);
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }
}
