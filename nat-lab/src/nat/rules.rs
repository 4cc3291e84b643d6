//! Generates the nft rules of a gateway.
//!
//! The kernel's own NAT keeps a port where it is free *towards one peer*. Two hosts inside may then share an outer
//! port, and each host's outer port depends on the peer. The rules for cones therefore store the outer port of each
//! inner endpoint, the same for every peer, and the owner of each outer port. Entries expire 300 s after the last
//! outgoing packet, as RFC 4787 (REQ-5) recommends. The kernel's own entries for UDP expire sooner: after 30 s without
//! a reply, after 120 s with one. A port chosen because another one is taken may itself be taken, by a chance of one in
//! thousands.

use super::{Gateway, Kind};
use crate::probe::{Depends, Ports};

/// The first port of the sequential range, and the number of ports in it.
const SEQUENCE: (u16, u16) = (30_000, 20_000);
/// Matches TCP and UDP, the only protocols with ports.
const PORTS: &str = "meta l4proto { tcp, udp }";
const FROM: &str = "meta l4proto . ip saddr . th sport";
const TO: &str = "meta l4proto . ip daddr . th dport";

impl Gateway<'_> {
    /// Returns the rules, for `nft -f -`. Loading them again resets the table, but not the connections that the kernel
    /// tracks.
    pub fn rules(&self) -> String {
        let mut table = Vec::new();
        if self.kind.is_cone() {
            table.extend(memory());
        }
        if self.kind.translates() {
            let outward = "type nat hook postrouting priority srcnat; policy accept;";
            table.push(chain("outward", outward, &self.outward()));
            table.push(chain("translate", "", &self.translate()));
        }
        if self.kind.is_cone() {
            let learn = "type filter hook postrouting priority srcnat + 10; policy accept;";
            table.push(chain("learn", learn, &learn_ports()));
            let inward = "type nat hook prerouting priority dstnat; policy accept;";
            table.push(chain("inward", inward, &self.inward()));
        }
        if self.kind != Kind::Pub {
            let own = "type filter hook input priority filter; policy drop;";
            table.push(chain("own", own, &self.own()));
            let through = "type filter hook forward priority filter; policy drop;";
            table.push(chain("through", through, &self.through()));
        }
        // Creates the table first, so that `delete` cannot fail.
        format!(
            "table inet nat_lab\ndelete table inet nat_lab\ntable inet nat_lab {{\n{}}}\n",
            table.concat()
        )
    }

    fn hairpins(&self) -> bool {
        self.hairpin && self.kind.can_hairpin()
    }

    /// Matches packets that came from inside and are hairpinned back inside.
    fn within(&self) -> String {
        format!("iifname \"{0}\" oifname \"{0}\" ct status dnat", self.lan)
    }

    fn outward(&self) -> Vec<String> {
        let mut rules = vec![
            "meta nfproto ipv6 accept".to_string(),
            format!("ip saddr {} accept", self.wan_v4),
            format!("oifname \"{}\" jump translate", self.wan),
        ];
        if self.hairpins() {
            rules.push(format!("{} jump translate", self.within()));
        }
        rules
    }

    fn translate(&self) -> Vec<String> {
        let address = self.wan_v4.to_string();
        match self.kind.ports() {
            Ports::Sequential => sequential(&address),
            Ports::Other if !self.kind.is_cone() => {
                vec![format!("snat ip to {address} fully-random")]
            }
            ports => remembered(&address, ports),
        }
    }

    /// Sends packets to a stored outer port to its inner endpoint. The kernel itself translates replies.
    fn inward(&self) -> Vec<String> {
        let open = self.kind.filtering() != Some(Depends::AddressAndPort);
        let sides = [(open, self.wan), (self.hairpins(), self.lan)];
        let sides = sides.iter().filter(|(has, _)| *has);
        sides
            .map(|(_, side)| {
                format!(
                    "iifname \"{side}\" ip daddr {} {PORTS} dnat ip to meta l4proto . th dport map @inner",
                    self.wan_v4
                )
            })
            .collect()
    }

    /// Drops unsolicited packets to the gateway itself. Accepting one would let the gateway take the outer port.
    fn own(&self) -> Vec<String> {
        let mut rules = vec![
            "iifname \"lo\" accept".to_string(),
            "ct state established,related accept".to_string(),
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept"
                .to_string(),
        ];
        if self.kind.translates() {
            // Without this rule the gateway itself would reject packets that it does not hairpin.
            let (lan, address) = (self.lan, self.wan_v4);
            rules.push(format!("iifname \"{lan}\" ip daddr {address} drop"));
        }
        rules.push(format!("iifname \"{}\" accept", self.lan));
        rules
    }

    fn through(&self) -> Vec<String> {
        let mut rules = Vec::new();
        if !self.kind.passes_udp() {
            rules.push("meta l4proto udp drop".to_string());
        }
        rules.extend(self.calls());
        rules.push("ct state established,related accept".to_string());
        rules.extend(self.uncalled());
        if self.maps_ports {
            rules.push(format!("iifname \"{}\" ct status dnat accept", self.wan));
        }
        rules.push(format!(
            "iifname \"{}\" oifname {{ \"{}\", \"{0}\" }} accept",
            self.lan, self.wan
        ));
        rules
    }

    /// Records destinations that inner hosts contacted, where the kernel's connection tracking is not enough.
    fn calls(&self) -> Vec<String> {
        let within = format!("{} {PORTS} ct direction original", self.within());
        let mut rules = Vec::new();
        match self.kind.filtering() {
            Some(Depends::Address) => {
                rules.push(format!(
                    "iifname \"{}\" oifname \"{}\" {PORTS} update @called {{ {FROM} . ip daddr }}",
                    self.lan, self.wan
                ));
                if self.hairpins() {
                    rules.push(format!(
                        "{within} update @called {{ {FROM} . ct original ip daddr }}"
                    ));
                }
            }
            Some(Depends::AddressAndPort) if self.hairpins() => rules.push(format!(
                "{within} update @called_inside {{ {FROM} . ip daddr . th dport }}"
            )),
            _ => {}
        }
        rules
    }

    /// Returns the rules that let in packets other than replies. Hairpinned packets pass the filter as if they came
    /// from outside.
    fn uncalled(&self) -> Vec<String> {
        let (outside, inside) = match self.kind.filtering() {
            Some(Depends::EndpointIndependent) => {
                (Some("accept".to_string()), "accept".to_string())
            }
            Some(Depends::Address) => (
                Some(format!("{TO} . ip saddr @called accept")),
                format!("{TO} . ct original ip daddr @called accept"),
            ),
            _ => (
                None,
                format!("{TO} . ip saddr . th sport @called_inside accept"),
            ),
        };
        let mut rules = Vec::new();
        if let Some(outside) = outside {
            rules.push(format!("iifname \"{}\" ct status dnat {outside}", self.wan));
        }
        if self.hairpins() {
            let within = self.within();
            rules.push(format!("{within} {inside}"));
            rules.push(format!("{within} drop"));
        }
        rules
    }
}

fn chain(name: &str, hook: &str, rules: &[String]) -> String {
    let rules: Vec<&str> = [hook]
        .into_iter()
        .chain(rules.iter().map(String::as_str))
        .filter(|rule| !rule.is_empty())
        .collect();
    format!(
        "    chain {name} {{\n        {}\n    }}\n",
        rules.join("\n        ")
    )
}

/// Declares, in this order: the outer port of each inner endpoint, the inner endpoint of each outer port, the outer
/// ports in use, the outer addresses that each inner endpoint contacted, and the inner endpoints that it contacted by
/// hairpinning.
fn memory() -> impl Iterator<Item = String> {
    let endpoint = "inet_proto . ipv4_addr . inet_service";
    [
        format!("map outer {{ type {endpoint} : inet_service;"),
        "map inner { type inet_proto . inet_service : ipv4_addr . inet_service;".to_string(),
        "set taken { type inet_proto . inet_service;".to_string(),
        format!("set called {{ type {endpoint} . ipv4_addr;"),
        format!("set called_inside {{ type {endpoint} . ipv4_addr . inet_service;"),
    ]
    .into_iter()
    .map(|what| format!("    {what} flags dynamic,timeout; timeout 300s; size 65536; }}\n"))
}

/// Stores the mappings of outgoing packets after translation: packets of connections begun inside, and replies to
/// connections begun outside.
fn learn_ports() -> Vec<String> {
    let learn = |when: &str, inner: &str, inner_port: &str, port: &str| {
        format!(
            "{PORTS} {when} \
             update @outer {{ meta l4proto . {inner} . {inner_port} : {port} }} \
             update @inner {{ meta l4proto . {port} : {inner} . {inner_port} }} \
             update @taken {{ meta l4proto . {port} }}"
        )
    };
    vec![
        learn(
            "ct direction original ct status snat",
            "ct original ip saddr",
            "ct original proto-src",
            "ct reply proto-dst",
        ),
        learn(
            "ct direction reply ct status dnat",
            "ct reply ip saddr",
            "ct reply proto-src",
            "ct original proto-dst",
        ),
    ]
}

/// Uses the stored port; else the inner port if ports are kept and it is free; else another port.
fn remembered(address: &str, ports: Ports) -> Vec<String> {
    let when = if ports == Ports::Kept {
        format!("{PORTS} meta l4proto . th sport @taken")
    } else {
        PORTS.to_string()
    };
    vec![
        format!("{PORTS} snat ip to {address} : {FROM} map @outer"),
        // The kernel keeps a port that lies in the range it may choose from.
        format!("{when} th sport 40000-60000 snat ip to {address} : 10000-29999"),
        format!("{when} snat ip to {address} : 40000-60000"),
        format!("snat ip to {address}"),
    ]
}

/// Gives each flow the next port in sequence.
fn sequential(address: &str) -> Vec<String> {
    let (first, many) = SEQUENCE;
    let ports = (0..many).map(|number| format!("{number}:{}", first + number));
    let ports = ports.collect::<Vec<_>>().join(",");
    vec![
        format!("{PORTS} snat ip to {address} : numgen inc mod {many} map {{ {ports} }}"),
        format!("snat ip to {address}"),
    ]
}
