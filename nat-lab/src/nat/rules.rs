//! A gateway in the language of nft.
//!
//! The kernel's own NAT keeps a port where it is free *towards one peer*, so that two hosts inside may share a port
//! outside, and what they have there depends on whom they talk to. So the cones remember what each endpoint inside has
//! outside, for every peer, and whose each port is. What they remember goes 300 s after the last packet that went out,
//! what RFC 4787 (REQ-5) recommends; the kernel forgets who was called earlier, after 30 s without an answer and 120 s with
//! one for UDP. A port that is chosen because another one is taken may, by chance of one in thousands, be taken too.

use super::{Gateway, Kind};
use crate::probe::{Depends, Ports};

/// The first of the ports that are given one after the other, and how many there are before they begin again.
const SEQUENCE: (u16, u16) = (30_000, 20_000);
/// What is neither has no ports.
const PORTS: &str = "meta l4proto { tcp, udp }";
const FROM: &str = "meta l4proto . ip saddr . th sport";
const TO: &str = "meta l4proto . ip daddr . th dport";

impl Gateway<'_> {
    /// The rules, for `nft -f -`. To load them again begins anew, but for connections that the kernel knows.
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
        // So that there is a table to delete.
        format!(
            "table inet nat_lab\ndelete table inet nat_lab\ntable inet nat_lab {{\n{}}}\n",
            table.concat()
        )
    }

    fn hairpins(&self) -> bool {
        self.hairpin && self.kind.can_hairpin()
    }

    /// What comes from inside and was sent back in.
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

    /// Where what comes to a remembered port goes. The kernel knows where answers go.
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

    /// Drops what comes to the gateway uncalled: if that were accepted, it would have its port for itself.
    fn own(&self) -> Vec<String> {
        let mut rules = vec![
            "iifname \"lo\" accept".to_string(),
            "ct state established,related accept".to_string(),
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept"
                .to_string(),
        ];
        if self.kind.translates() {
            // What was not sent back in would else be refused by the gateway itself.
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

    /// Takes note of who is called, where the kernel's own notes don't tell.
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

    /// Whom the filter lets in who does not answer. What is sent back in passes it as if it came from outside.
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

/// The port outside that an endpoint inside has, the endpoint of a port, and the ports that are somebody's; the address
/// outside that an endpoint inside called, and the endpoint inside that it did.
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

/// Takes note of what went out, after it was translated: of what began inside, and of answers to what did not.
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

/// The port that is remembered; else the same one, where it is kept and free; else another one.
fn remembered(address: &str, ports: Ports) -> Vec<String> {
    let when = if ports == Ports::Kept {
        format!("{PORTS} meta l4proto . th sport @taken")
    } else {
        PORTS.to_string()
    };
    vec![
        format!("{PORTS} snat ip to {address} : {FROM} map @outer"),
        // The kernel keeps a port that is one of those it may choose from.
        format!("{when} th sport 40000-60000 snat ip to {address} : 10000-29999"),
        format!("{when} snat ip to {address} : 40000-60000"),
        format!("snat ip to {address}"),
    ]
}

/// The next port for each flow.
fn sequential(address: &str) -> Vec<String> {
    let (first, many) = SEQUENCE;
    let ports = (0..many).map(|number| format!("{number}:{}", first + number));
    let ports = ports.collect::<Vec<_>>().join(",");
    vec![
        format!("{PORTS} snat ip to {address} : numgen inc mod {many} map {{ {ports} }}"),
        format!("snat ip to {address}"),
    ]
}
