//! Two computers behind routers whose NAT can't be punched, and which map ports for who asks them: network namespaces, NAT
//! by the kernel, and miniupnpd, which speaks PCP, NAT-PMP and `UPnP`. Takes root; without it there is nothing to see here.

// What was measured, or is missing, is read in the output.
#![allow(clippy::print_stderr)]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::{Process, Scene, Sender, eventually, noise};

/// An internet with two nodes on it, and two routers with one host behind each. All of it goes when this does.
struct Internet {
    mark: String,
    /// What maps ports.
    mappers: Vec<Process>,
}

/// How miniupnpd is set up, but for what it speaks. Its chains are in a table of their own.
const MAPPER: &str = "ext_ifname=wan
listening_ip=lan
secure_mode=yes
uuid=5e7b0e36-2d0b-4b0e-9d9c-5f3a3f0c9a11
upnp_table_name=mapped
upnp_nat_table_name=mapped
upnp_forward_chain=forwarded
upnp_nat_chain=inwards
upnp_nat_postrouting_chain=outwards
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
";

/// Every router gives each peer another port, so that nobody is reached who is not asked for; but for mapped ports.
const RULES: &str = "table ip nat {
    chain outward { type nat hook postrouting priority srcnat; oifname wan masquerade fully-random; }
    chain inward { type filter hook input priority 0; policy drop;
        iifname { lo, lan } accept; ct state established,related accept; }
    chain through { type filter hook forward priority 0; policy drop;
        ct state established,related accept; iifname lan oifname wan accept; ct status dnat accept; }
}
table inet mapped {
    chain prerouting { type nat hook prerouting priority dstnat; jump inwards; }
    chain postrouting { type nat hook postrouting priority srcnat; jump outwards; }
    chain forward { type filter hook forward priority 0; jump forwarded; }
    chain inwards { }
    chain outwards { }
    chain forwarded { }
}
";

const PLACES: [&str; 7] = ["net", "n1", "n2", "g1", "g2", "h1", "h2"];

impl Internet {
    /// `None` for who may not make any.
    fn new(mark: &str, scene: &Scene, speaks: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        if Command::new("miniupnpd").arg("-h").output().is_err() {
            eprintln!("skipped: no miniupnpd here; Debian's package is miniupnpd-nftables");
            return None;
        }
        let mark = format!("hn{}{mark}", std::process::id());
        let mappers = Vec::new();
        let mut internet = Self { mark, mappers };
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
        for number in [1, 2] {
            internet.gateway(number);
            let mapper = internet.mapper(number, scene, speaks);
            internet.mappers.push(mapper);
        }
        Some(internet)
    }

    fn gateway(&self, number: u32) {
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
            .write_all(RULES.as_bytes())
            .unwrap();
        assert!(
            nft.wait().unwrap().success(),
            "nft; Debian's package is nftables"
        );
    }

    /// What maps ports at a router, once it answers.
    fn mapper(&self, number: u32, scene: &Scene, speaks: &str) -> Process {
        let gateway = format!("g{number}");
        // Or it searches and answers over the internet.
        self.ip(&gateway, "route add 239.0.0.0/8 dev lan");
        let settings = scene.file(&gateway, format!("{MAPPER}{speaks}").as_bytes());
        let mut mapper = Command::new("miniupnpd");
        mapper.arg("-d").arg("-f").arg(settings);
        mapper.arg("-P").arg(scene.path(&format!("{gateway}.pid")));
        let mut mapper = self.at(&gateway, &mapper);
        let log = scene.path(&format!("{gateway}.log"));
        mapper.stderr(std::fs::File::create(&log).unwrap());
        let mapper = Process::start(mapper);
        eventually("a router that listens", || {
            let told = std::fs::read_to_string(&log).unwrap();
            told.contains("HTTP listening") || told.contains("Listening for NAT-PMP")
        });
        mapper
    }

    /// Ports that a router maps now.
    fn mapped(&self, gateway: &str) -> usize {
        let mut list = Command::new("nft");
        list.args(["list", "chain", "inet", "mapped", "inwards"]);
        let listed = Process::start(self.at(gateway, &list)).wait().expect(0);
        let listed = String::from_utf8(listed.stdout).unwrap();
        listed.matches("dnat").count()
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
        self.mappers.clear();
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

/// Hands a file over by short code between hosts whose routers speak this. It has to go straight in the end, and the
/// sender to give its ports back. (The receiver may be done before it has any.)
fn hand_over(mark: &str, speaks: &str) {
    let scene = Scene::new();
    let Some(internet) = Internet::new(mark, &scene, speaks) else {
        return;
    };
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
        .chain(["--no-mdns", "--json"])
        .collect();
    let mut share = scene.bare(&["send", "--data-dir"]);
    share.arg(scene.path("sender")).args(&begin).arg(&sent);
    let mut sender = Sender::start_unopened(internet.at("h1", &share));
    let code = sender.await_announced_code();
    eventually("ports for TCP and QUIC", || internet.mapped("g1") == 2);
    let mut get = scene.bare(&["get", "--yes", "--data-dir"]);
    get.arg(scene.path("receiver"))
        .args(&begin)
        .env("HANDOVER_CODE", &code);
    get.arg("--to").arg(scene.path("got"));
    let got = Process::start(internet.at("h2", &get)).wait().expect(0);
    assert!(std::fs::read(scene.path("got/sent")).unwrap() == noise(40_000_000, 1));
    let events = got.events().into_iter();
    let connected = events.filter(|event| event["event"] == "connected");
    let paths: Vec<_> = connected.map(|event| event["path"].clone()).collect();
    eprintln!("{speaks:?}: {paths:?}");
    assert_eq!(paths.last().unwrap(), "direct", "{paths:?}");
    sender.signal(rustix::process::Signal::INT);
    sender.wait();
    eventually("the sender's ports given back", || {
        internet.mapped("g1") == 0
    });
}

#[test]
fn what_can_not_be_punched_is_direct_by_a_port_mapped_over_pcp() {
    hand_over("e", "enable_natpmp=yes\nenable_upnp=no\n");
}

#[test]
fn what_can_not_be_punched_is_direct_by_a_port_mapped_over_upnp() {
    hand_over("f", "enable_natpmp=no\nenable_upnp=yes\n");
}
