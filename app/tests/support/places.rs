//! Computers and routers made of network namespaces, and cables between them, created with the `ip` program. Requires
//! [`NEEDS`].

use std::process::Command;

use handover_core::Multiaddr;
use handover_core::code::ShareCode;
use handover_test_needs::{NFT, Need};

use super::Sender;

/// Requirements of tests that use places.
pub const NEEDS: &[Need] = &[Need::Namespaces, NFT];

/// Network namespaces with names of this process's own. Dropping this removes them; processes in them continue without
/// a network.
pub struct Places {
    mark: String,
    names: Vec<&'static str>,
}

impl Places {
    /// Creates the places. `mark` distinguishes those of one test from those of others.
    pub fn new(mark: &str, names: &[&'static str]) -> Self {
        let places = Self {
            mark: format!("hp{}{mark}", std::process::id()),
            names: names.to_vec(),
        };
        for name in names {
            ip(&format!("netns add {}", places.name(name)));
            places.ip(name, "link set lo up");
        }
        places
    }

    fn name(&self, place: &str) -> String {
        format!("{}{place}", self.mark)
    }

    /// Runs `ip` at a place.
    pub fn ip(&self, place: &str, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name(place)));
    }

    /// Connects two places by a cable: an interface with the given name at each end, both up.
    pub fn cable(&self, ends: [(&str, &str); 2]) {
        let [(one, at_one), (other, at_other)] = ends;
        let there = self.name(other);
        self.ip(
            one,
            &format!("link add {at_one} type veth peer name {at_other} netns {there}"),
        );
        for (place, interface) in ends {
            self.ip(place, &format!("link set {interface} up"));
        }
    }

    /// Assigns an address to an interface, without duplicate address detection for IPv6.
    pub fn address(&self, place: &str, interface: &str, address: &str) {
        let at_once = if address.contains(':') { " nodad" } else { "" };
        self.ip(
            place,
            &format!("addr add {address} dev {interface}{at_once}"),
        );
    }

    /// Enables forwarding at a place.
    pub fn forwards(&self, place: &str) {
        self.shell(
            place,
            "for net in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$net; done",
        );
    }

    /// Sets a place's packet filter rules, in `nft` syntax.
    pub fn rules(&self, place: &str, rules: &str) {
        self.shell(place, &format!("nft -f - <<'RULES'\n{rules}\nRULES"));
    }

    /// A command to be run at a place, with its outputs collected.
    pub fn at(&self, place: &str, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name(place)]);
        super::run_by(inside, command)
    }

    /// Runs a line of shell at a place, and returns its output.
    pub fn shell(&self, place: &str, line: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let output = self.at(place, &shell).output().expect("ip runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {words}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(name)])
                .status();
        }
    }
}

/// Runs `ip` with arguments that contain no spaces.
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("the ip program; Debian's package is iproute2");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {words}");
}

/// Waits for a ticket with the wanted addresses, and returns it.
pub fn await_ticket(sender: &mut Sender, wanted: impl Fn(&[Multiaddr]) -> bool) -> String {
    loop {
        let open = sender.await_event("share_open");
        let code = open["code"].as_str().unwrap();
        if wanted(&ShareCode::parse(code).unwrap().addresses()) {
            return code.to_owned();
        }
    }
}

/// True if the address begins with this IP address.
pub fn names(address: &Multiaddr, ip: &str) -> bool {
    address.to_string().split('/').nth(2) == Some(ip)
}
