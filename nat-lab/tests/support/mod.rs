//! A server with two addresses, nested gateways, and hosts behind the innermost one: network namespaces, created with
//! `ip` and `nft`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use handover_nat_lab::nat::{self, Gateway, Kind};
use handover_nat_lab::probe::Findings;

const V4: [&str; 2] = ["11.0.0.1", "11.0.0.2"];
const V6: [&str; 2] = ["fd11::1", "fd11::2"];
const PORTS: [&str; 2] = ["3478", "3479"];
/// Maximum number of attempts of a probe.
const TRIES: u32 = 3;

/// Network namespaces with gateways, hosts and servers. Removed on drop.
pub struct Topology {
    mark: String,
    places: Vec<String>,
    hosts: usize,
    servers: Vec<Child>,
}

impl Topology {
    /// The first gateway is the one nearest to the hosts.
    pub fn new(gateways: &[(Kind, bool)], hosts: usize) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mut topology = Self {
            mark: format!("hnk{}x{number}", std::process::id()),
            places: Vec::new(),
            hosts,
            servers: Vec::new(),
        };
        topology.place("net");
        topology.bridge("net");
        for address in V4 {
            topology.ip("net", &format!("addr add {address}/8 dev lan"));
        }
        for address in V6 {
            topology.ip("net", &format!("addr add {address}/64 dev lan nodad"));
        }
        topology.ip("net", "route add 10.0.0.0/8 via 11.0.0.9");
        topology.ip("net", "route add fd10::/16 via fd11::9");
        let mut outer = "net".to_string();
        for (level, (kind, hairpin)) in gateways.iter().rev().enumerate() {
            outer = topology.gateway(&outer, level, *kind, *hairpin);
        }
        for host in 0..hosts {
            let name = format!("h{host}");
            topology.place(&name);
            topology.connect(&name, &outer, gateways.len(), 20 + host);
        }
        for addresses in [V4, V6] {
            topology.serve(addresses);
        }
        topology
    }

    /// Returns the findings of every host over IPv4 and over IPv6, all measured at the same time.
    pub fn measure(&self) -> Vec<(Findings, Findings)> {
        let measure = |host: usize, addresses: [&str; 2]| {
            let mut probe = self.probe(&format!("h{host}"), "probe", addresses);
            // A newly created network may not answer yet. Over IPv6 that happened about once in thirty runs.
            for _ in 0..TRIES {
                let output = probe.output().unwrap();
                if output.status.success() {
                    return serde_json::from_slice(&output.stdout).unwrap();
                }
                let words = String::from_utf8_lossy(&output.stderr);
                eprintln!("{addresses:?}: {words}");
            }
            panic!("{addresses:?}: no probe is answered");
        };
        thread::scope(|scope| {
            let found: Vec<_> = (0..self.hosts)
                .map(|host| {
                    let v4 = scope.spawn(move || measure(host, V4));
                    (v4, scope.spawn(move || measure(host, V6)))
                })
                .collect();
            found
                .into_iter()
                .map(|(v4, v6)| (v4.join().unwrap(), v6.join().unwrap()))
                .collect()
        })
    }

    /// Loads the rules of `gateway` at the outermost gateway.
    pub fn load(&self, gateway: &Gateway) {
        self.filter("g0", gateway);
    }

    fn gateway(&mut self, outer: &str, level: usize, kind: Kind, hairpin: bool) -> String {
        let name = format!("g{level}");
        self.place(&name);
        self.bridge(&name);
        self.connect(&name, outer, level, 9);
        let inside = level + 1;
        self.ip(&name, &format!("addr add 10.{inside}.0.1/24 dev lan"));
        self.ip(
            &name,
            &format!("addr add fd10:{inside}::1/64 dev lan nodad"),
        );
        // Routes to the next inner network, for hosts that are not translated.
        let further = inside + 1;
        let _ = self.try_ip(
            &name,
            &format!("route add 10.{further}.0.0/24 via 10.{inside}.0.9"),
        );
        let _ = self.try_ip(
            &name,
            &format!("route add fd10:{further}::/64 via fd10:{inside}::9"),
        );
        for (path, value) in nat::sysctls() {
            let set = format!("! test -e /proc/sys/{path} || echo {value} > /proc/sys/{path}");
            let status = self.inside(&name, "sh").args(["-c", &set]).status();
            assert!(status.unwrap().success(), "{path}");
        }
        let wan_v4 = match level {
            0 => [11, 0, 0, 9],
            _ => [10, u8::try_from(level).unwrap(), 0, 9],
        };
        self.filter(
            &name,
            &Gateway {
                kind,
                hairpin,
                maps_ports: false,
                wan: "wan",
                lan: "lan",
                wan_v4: wan_v4.into(),
            },
        );
        name
    }

    fn place(&mut self, name: &str) {
        ip(&format!("netns add {}", self.name(name))).unwrap();
        self.places.push(name.to_string());
        self.ip(name, "link set lo up");
    }

    fn bridge(&self, name: &str) {
        self.ip(name, "link add name lan type bridge");
        self.ip(name, "link set lan up");
    }

    /// Connects a namespace to the inner network of another one.
    fn connect(&self, name: &str, outer: &str, level: usize, number: usize) {
        let there = self.name(outer);
        self.ip(
            name,
            &format!("link add wan type veth peer name to-{name} netns {there}"),
        );
        self.ip(outer, &format!("link set to-{name} master lan up"));
        self.ip(name, "link set wan up");
        let (v4, v6) = if level == 0 {
            (format!("11.0.0.{number}/8"), format!("fd11::{number}/64"))
        } else {
            self.ip(name, "link set wan up");
            (
                format!("10.{level}.0.{number}/24"),
                format!("fd10:{level}::{number}/64"),
            )
        };
        self.ip(name, &format!("addr add {v4} dev wan"));
        self.ip(name, &format!("addr add {v6} dev wan nodad"));
        if level > 0 {
            self.ip(name, &format!("route add default via 10.{level}.0.1"));
            self.ip(name, &format!("route add default via fd10:{level}::1"));
        }
    }

    fn filter(&self, name: &str, gateway: &Gateway) {
        let mut nft = self.inside(name, "nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut rules = nft.stdin.take().unwrap();
        rules.write_all(gateway.rules().as_bytes()).unwrap();
        drop(rules);
        assert!(nft.wait().unwrap().success(), "{}", gateway.kind);
    }

    fn serve(&mut self, addresses: [&str; 2]) {
        let mut serve = self.probe("net", "probe-serve", addresses);
        let mut server = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        let output = server.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut ready).unwrap();
        self.servers.push(server);
        assert_eq!(ready, "ready\n");
    }

    fn probe(&self, place: &str, what: &str, addresses: [&str; 2]) -> Command {
        let mut command = self.inside(place, env!("CARGO_BIN_EXE_handover-nat-lab"));
        command.arg(what).args(addresses).args(PORTS);
        command
    }

    fn inside(&self, place: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(place), program]);
        command
    }

    fn name(&self, place: &str) -> String {
        format!("{}{place}", self.mark)
    }

    fn ip(&self, place: &str, arguments: &str) {
        self.try_ip(place, arguments).unwrap();
    }

    fn try_ip(&self, place: &str, arguments: &str) -> Result<(), String> {
        ip(&format!("-n {} {arguments}", self.name(place)))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        for place in &self.places {
            let _ = ip(&format!("netns del {}", self.name(place)));
        }
    }
}

/// Runs `ip` with arguments that contain no spaces.
fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments}: {words}"))
}
