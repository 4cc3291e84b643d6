//! Two computers, each behind a NAT of its own, and an internet between them: network namespaces, a bridge, and NAT by the
//! kernel. Making those takes root and the programs `ip` and `nft`; without root there is nothing to see here.

// What was measured is read in the output.
#![allow(clippy::print_stderr)]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::{Process, Scene, Sender, eventually, noise};

/// What a gateway does with ports.
#[derive(Debug, Clone, Copy)]
enum Nat {
    /// Port-restricted cone that keeps the port where it is free.
    Kept,
    /// The same with another port, one for everybody.
    NotKept,
    /// Another port for each peer.
    Symmetric,
}

/// An internet with two nodes on it, and two gateways with one host behind each. All of it goes when this does.
struct Internet {
    mark: String,
}

const PLACES: [&str; 7] = ["net", "n1", "n2", "g1", "g2", "h1", "h2"];

impl Internet {
    /// `None` for who may not make any.
    fn new(mark: &str, nats: [Nat; 2]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let mark = format!("hn{}{mark}", std::process::id());
        let internet = Self { mark };
        for place in PLACES {
            ip(&format!("netns add {}", internet.name(place)));
            internet.ip(place, "link set lo up");
        }
        internet.ip("net", "link add name middle type bridge");
        internet.ip("net", "link set middle up");
        for (place, address) in [
            ("n1", "11.0.0.1"),
            ("n2", "11.0.0.2"),
            ("g1", "11.1.0.1"),
            ("g2", "11.2.0.1"),
        ] {
            let (net, end) = (internet.name("net"), format!("to-{place}"));
            internet.ip(
                place,
                &format!("link add wan type veth peer name {end} netns {net}"),
            );
            internet.ip("net", &format!("link set {end} master middle up"));
            internet.ip(place, &format!("addr add {address}/8 dev wan"));
            internet.ip(place, "link set wan up");
        }
        for (nat, number) in nats.into_iter().zip(1..) {
            internet.gateway(number, nat);
        }
        Some(internet)
    }

    fn gateway(&self, number: u32, nat: Nat) {
        let (gateway, host) = (format!("g{number}"), format!("h{number}"));
        let inside = self.name(&host);
        self.ip(
            &gateway,
            &format!("link add lan type veth peer name lan netns {inside}"),
        );
        for (place, end) in [(&gateway, 1), (&host, 2)] {
            self.ip(
                place,
                &format!("addr add 192.168.{number}.{end}/24 dev lan"),
            );
            self.ip(place, "link set lan up");
        }
        self.ip(&host, &format!("route add default via 192.168.{number}.1"));
        let mut forward = Command::new("ip");
        forward.args(["netns", "exec", &self.name(&gateway), "sh", "-c"]);
        forward.arg("echo 1 > /proc/sys/net/ipv4/ip_forward");
        assert!(forward.status().unwrap().success());
        let masquerade = match nat {
            Nat::Kept => "masquerade",
            Nat::NotKept => "meta l4proto { tcp, udp } masquerade to :40000-60000",
            Nat::Symmetric => "masquerade fully-random",
        };
        let rules = format!(
            "table ip nat {{
                chain outward {{ type nat hook postrouting priority srcnat; oifname wan {masquerade}; }}
                chain inward {{ type filter hook input priority 0; policy drop;
                    iifname {{ lo, lan }} accept; ct state established,related accept; }}
                chain through {{ type filter hook forward priority 0; policy drop;
                    ct state established,related accept; iifname lan oifname wan accept; }}
            }}\n"
        );
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.name(&gateway), "nft", "-f", "-"]);
        let mut nft = nft.stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin
            .take()
            .unwrap()
            .write_all(rules.as_bytes())
            .unwrap();
        assert!(
            nft.wait().unwrap().success(),
            "nft; Debian's package is nftables"
        );
    }

    fn name(&self, place: &str) -> String {
        format!("{}{place}", self.mark)
    }

    fn ip(&self, place: &str, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name(place)));
    }

    /// A command at one place.
    fn at(&self, place: &str, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name(place)]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        inside
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for place in PLACES {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(place)])
                .status();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("the ip program; Debian's package is iproute2");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {words}");
}

/// Hands a file over by short code; the paths that the receiver connected by.
fn hand_over(mark: &str, nats: [Nat; 2]) -> Option<Vec<String>> {
    let internet = Internet::new(mark, nats)?;
    let scene = Scene::new();
    let sent = scene.file("sent", &noise(40_000_000, 1));
    let mut nodes: Vec<(Process, Vec<String>)> = Vec::new();
    for (place, address) in [("n1", "11.0.0.1"), ("n2", "11.0.0.2")] {
        let addresses = [
            format!("/ip4/{address}/tcp/4001"),
            format!("/ip4/{address}/udp/4001/quic-v1"),
        ];
        let mut node = scene.bare(&["node", "--private", "--data-dir"]);
        node.arg(scene.path(place));
        for address in &addresses {
            node.args(["--listen", address, "--external", address]);
        }
        for (_, known) in &nodes {
            node.args(["--bootstrap", &known[0]]);
        }
        let mut node = internet.at(place, &node);
        let log = scene.path(&format!("{place}.log"));
        node.stdout(std::fs::File::create(&log).unwrap());
        let process = Process::start(node);
        let told = || {
            std::fs::read_to_string(&log)
                .unwrap()
                .lines()
                .map(str::to_string)
                .collect::<Vec<_>>()
        };
        eventually("a node's addresses", || told().len() == 2);
        nodes.push((process, told()));
    }
    let begin: Vec<&str> = nodes
        .iter()
        .flat_map(|(_, addresses)| {
            addresses
                .iter()
                .flat_map(|address| ["--bootstrap", address])
        })
        .chain(["--no-mdns", "--no-port-mapping", "--json"])
        .collect();
    let mut share = scene.bare(&["send", "--data-dir"]);
    share.arg(scene.path("sender")).args(&begin).arg(&sent);
    let mut sender = Sender::start_unopened(internet.at("h1", &share));
    let code = sender.await_announced_code();
    let mut get = scene.bare(&["get", "--yes", "--data-dir"]);
    get.arg(scene.path("receiver"))
        .args(&begin)
        .env("HANDOVER_CODE", &code);
    get.arg("--to").arg(scene.path("got"));
    let got = Process::start(internet.at("h2", &get)).wait().expect(0);
    assert!(std::fs::read(scene.path("got/sent")).unwrap() == noise(40_000_000, 1));
    let events = got.events().into_iter();
    let connected = events.filter(|event| event["event"] == "connected");
    let paths = connected
        .map(|event| event["path"].as_str().unwrap().to_string())
        .collect();
    eprintln!(
        "{nats:?}: {paths:?}, {}",
        got.event("download_ended")["took"]
    );
    Some(paths)
}

#[test]
fn port_restricted_nats_are_punched_whether_they_keep_ports_or_not() {
    for (mark, nats) in [
        ("a", [Nat::Kept, Nat::Kept]),
        ("b", [Nat::NotKept, Nat::Kept]),
        ("c", [Nat::NotKept, Nat::NotKept]),
    ] {
        let Some(paths) = hand_over(mark, nats) else {
            return;
        };
        assert_eq!(paths, ["relayed", "direct"], "{nats:?}");
    }
}

#[test]
fn what_can_not_be_punched_is_relayed() {
    let Some(paths) = hand_over("d", [Nat::Symmetric, Nat::Symmetric]) else {
        return;
    };
    assert!(paths.iter().all(|path| path == "relayed"), "{paths:?}");
}
