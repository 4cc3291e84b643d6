//! What the network here allows, in words: a finding a line, what it means for transfers, and what to do.

use std::time::Duration;

use super::Tone;
use super::units::{count, took};
use crate::cli::doctor::{Dht, Diagnosis, Mapping, Nat, Outlook, Presence, Reach, Udp};

/// A finding, and how it is meant.
pub(crate) type Finding = (Tone, String);

/// It has begun.
pub(crate) fn looking(most: Duration) -> String {
    let most = count(most.as_secs(), "second", "seconds");
    format!("looking at the network; this takes up to {most}")
}

/// What to expect.
pub(crate) fn summary(expect: Outlook) -> &'static str {
    match expect {
        Outlook::Direct => "\nDirect transfers: likely",
        Outlook::ReachablePeers => {
            "\nDirect transfers: only with peers that can be reached; through relays with others"
        }
        Outlook::Relays => "\nDirect transfers: none, through relays only",
        Outlook::LocalNetwork => "\nDirect transfers: only this local network",
    }
}

/// Every finding.
pub(crate) fn findings(of: &Diagnosis) -> Vec<Finding> {
    // Where nobody was asked, that nobody has said anything says nothing.
    let asked = matches!(of.dht, Dht::Answers(_)) && of.reachable > Reach::Assumed;
    let mut all = addresses(of);
    all.extend(bootstrap(of));
    all.push(dht(of.dht));
    all.extend((asked || of.nat != Nat::Unknown).then(|| nat(of.nat)));
    all.extend(udp(of.udp).filter(|_| asked || of.udp != Udp::Unknown));
    all.extend(reach(of.reachable).filter(|_| asked || of.reachable != Reach::Unknown));
    all.extend(mapping(of.port_mapping));
    all.extend(relays(of));
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
    let (reached, nodes) = (of.bootstrap_reached, of.bootstrap_nodes);
    let of_nodes = format!("{reached} of {}", count(nodes as u64, "node", "nodes"));
    match (reached, nodes) {
        (_, 0) => None,
        (0, _) => Some(bad(format!(
            "Bootstrap: {of_nodes} reached, so only this network is searched.\n  \
             Check the internet connection and the firewall, or name another node with --bootstrap."
        ))),
        _ => Some(good(format!("Bootstrap: {of_nodes} reached."))),
    }
}

fn dht(dht: Dht) -> Finding {
    match dht {
        Dht::Off => mixed("DHT: left out by the options, so only this network is searched."),
        Dht::Late => mixed("DHT: no answer in the time that it was given. --wait gives it more."),
        Dht::Silent => bad(
            "DHT: nobody answers. Short codes are found on this network only; send with --ticket to name addresses.",
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
        Udp::Unknown => mixed("UDP: nobody has told whether it gets out."),
        Udp::Blocked => mixed(
            "UDP: it seems to be blocked. TCP is used, and hole punching fails more often.\n  \
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

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Diagnosis {
        Diagnosis {
            ipv4: Presence::Private,
            ipv6: Presence::Public,
            bootstrap_reached: 3,
            bootstrap_nodes: 4,
            dht: Dht::Answers(Duration::from_millis(1240)),
            nat: Nat::PortKept,
            udp: Udp::Works,
            reachable: Reach::Nobody,
            port_mapping: Mapping::NoRouter,
            relays: 3,
            relays_needed: true,
            expect: Outlook::Direct,
        }
    }

    fn told(of: &Diagnosis) -> String {
        let mut lines: Vec<String> = findings(of).into_iter().map(|(_, text)| text).collect();
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
            bootstrap_reached: 1,
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
            bootstrap_reached: 0,
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
        lines.extend([dht(Dht::Off), dht(Dht::Late)]);
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
        lines.push((Tone::Strong, summary(Outlook::Relays).to_string()));
        let lines: Vec<String> = lines.into_iter().map(|(_, text)| text).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
