//! An internet of two nodes and two gateways, with one host behind each gateway and NAT by the kernel.

use super::places::Places;
use super::{Outcome, Process, Scene, Sender, eventually, noise};

/// Dropping this removes all of it.
pub struct Internet {
    nodes: Vec<(Process, Vec<String>)>,
    pub places: Places,
}

impl Internet {
    /// Creates it with these packet filter rules at the two gateways, whose interfaces are called `lan` and `wan`.
    pub fn new(mark: &str, scene: &Scene, rules: [&str; 2]) -> Self {
        let places = Places::new(mark, &["net", "n1", "n2", "g1", "g2", "h1", "h2"]);
        places.ip("net", "link add name middle type bridge");
        places.ip("net", "link set middle up");
        for (place, address) in [
            ("n1", "11.0.0.1"),
            ("n2", "11.0.0.2"),
            ("g1", "11.1.0.1"),
            ("g2", "11.2.0.1"),
        ] {
            let end = format!("to-{place}");
            places.cable([(place, "wan"), ("net", &end)]);
            places.ip("net", &format!("link set {end} master middle"));
            places.address(place, "wan", &format!("{address}/8"));
        }
        for (rules, number) in rules.into_iter().zip(1..) {
            gateway(&places, number, rules);
        }
        let mut internet = Self {
            nodes: Vec::new(),
            places,
        };
        internet.nodes = internet.start_nodes(scene);
        internet
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
            let mut node = self.places.at(place, &node);
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

    /// Transfers a file from the first host to the second by short code; calls `ready` before the second one starts.
    /// Returns the receiver's outcome, and the sharer.
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
        let mut sender = Sender::start_unopened(self.places.at("h1", &share));
        let code = sender.await_announced_code();
        ready();
        let mut get = scene.bare(&["get", "--yes", "--data-dir"]);
        get.arg(scene.path("receiver"))
            .args(&begin)
            .env("HANDOVER_CODE", &code);
        get.arg("--to").arg(scene.path("got"));
        let got = Process::start(self.places.at("h2", &get)).wait().expect(0);
        assert!(std::fs::read(scene.path("got/sent")).unwrap() == noise(40_000_000, 1));
        (got, sender)
    }
}

fn gateway(places: &Places, number: u32, rules: &str) {
    let (gateway, host) = (format!("g{number}"), format!("h{number}"));
    places.cable([(&gateway, "lan"), (&host, "lan")]);
    places.address(&gateway, "lan", &format!("192.168.{number}.1/24"));
    places.address(&host, "lan", &format!("192.168.{number}.2/24"));
    places.ip(&host, &format!("route add default via 192.168.{number}.1"));
    places.forwards(&gateway);
    places.rules(&gateway, rules);
}

/// The paths that a receiver connected over.
pub fn connected(got: &Outcome) -> Vec<String> {
    let events = got.events().into_iter();
    let connected = events.filter(|event| event["event"] == "connected");
    let paths = connected.map(|event| event["path"].as_str().unwrap().to_string());
    paths.collect()
}
