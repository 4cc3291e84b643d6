//! An internet of two nodes and two gateways, with one host behind each: network namespaces, a bridge, and NAT by the
//! kernel. Making those takes [`NEEDS`].

use std::io::Write;
use std::process::{Command, Stdio};

use handover_test_needs::{NFT, Need};

use super::netns::{self, ip};
use super::{Outcome, Process, Scene, Sender, eventually, noise};

/// What tests of it need.
pub const NEEDS: &[Need] = &[Need::Namespaces, NFT];

/// All of it goes when this does.
pub struct Internet {
    mark: String,
    nodes: Vec<(Process, Vec<String>)>,
}

const PLACES: [&str; 7] = ["net", "n1", "n2", "g1", "g2", "h1", "h2"];

impl Internet {
    /// With these rules for packets at the two gateways, whose sides are called `lan` and `wan`.
    pub fn new(mark: &str, scene: &Scene, rules: [&str; 2]) -> Self {
        let mark = format!("hn{}{mark}", std::process::id());
        let nodes = Vec::new();
        let mut internet = Self { mark, nodes };
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
        for (rules, number) in rules.into_iter().zip(1..) {
            internet.gateway(number, rules);
        }
        internet.nodes = internet.start_nodes(scene);
        internet
    }

    fn gateway(&self, number: u32, rules: &str) {
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
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.name(&gateway), "nft", "-f", "-"]);
        let mut nft = nft.stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin
            .take()
            .unwrap()
            .write_all(rules.as_bytes())
            .unwrap();
        assert!(nft.wait().unwrap().success(), "the rules of {gateway}");
    }

    fn start_nodes(&self, scene: &Scene) -> Vec<(Process, Vec<String>)> {
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
            let mut node = self.at(place, &node);
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
        nodes
    }

    /// Hands a file from the first host to the second by short code; `ready` is waited for before the second begins. What
    /// the receiver told, and the sharer.
    pub fn hand_over(
        &self,
        scene: &Scene,
        options: &[&str],
        ready: impl FnOnce(),
    ) -> (Outcome, Sender) {
        let sent = scene.file("sent", &noise(40_000_000, 1));
        let addresses = self.nodes.iter().flat_map(|(_, addresses)| addresses);
        let begin: Vec<&str> = addresses
            .flat_map(|address| ["--bootstrap", address])
            .chain(["--no-mdns", "--json"])
            .chain(options.iter().copied())
            .collect();
        let mut share = scene.bare(&["send", "--data-dir"]);
        share.arg(scene.path("sender")).args(&begin).arg(&sent);
        let mut sender = Sender::start_unopened(self.at("h1", &share));
        let code = sender.await_announced_code();
        ready();
        let mut get = scene.bare(&["get", "--yes", "--data-dir"]);
        get.arg(scene.path("receiver"))
            .args(&begin)
            .env("HANDOVER_CODE", &code);
        get.arg("--to").arg(scene.path("got"));
        let got = Process::start(self.at("h2", &get)).wait().expect(0);
        assert!(std::fs::read(scene.path("got/sent")).unwrap() == noise(40_000_000, 1));
        (got, sender)
    }

    fn name(&self, place: &str) -> String {
        format!("{}{place}", self.mark)
    }

    pub fn ip(&self, place: &str, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name(place)));
    }

    /// A command at one place.
    pub fn at(&self, place: &str, command: &Command) -> Command {
        netns::inside(&self.name(place), command)
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.nodes.clear();
        for place in PLACES {
            netns::delete(&self.name(place));
        }
    }
}

/// The paths that a receiver connected by.
pub fn connected(got: &Outcome) -> Vec<String> {
    let events = got.events().into_iter();
    let connected = events.filter(|event| event["event"] == "connected");
    let paths = connected.map(|event| event["path"].as_str().unwrap().to_string());
    paths.collect()
}
