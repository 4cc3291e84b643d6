//! Computers and routers made of network namespaces, and cables between them.

use std::process::{Command, ExitCode};

use handover_core::Multiaddr;
use handover_core::code::ShareCode;
use handover_test_needs::{ETHTOOL, IP, NFT, Need, Tests};

use super::{Sender, netns};

/// Places with names of this process's own. They go when this does.
pub struct Places {
    mark: String,
    names: Vec<&'static str>,
}

impl Places {
    /// `mark` tells the places of one test from those of others.
    pub fn new(mark: &str, names: &[&'static str]) -> Self {
        let places = Self {
            mark: format!("hp{}{mark}", std::process::id()),
            names: names.to_vec(),
        };
        for name in names {
            netns::ip(&format!("netns add {}", places.name(name)));
            places.ip(name, "link set lo up");
        }
        places
    }

    fn name(&self, place: &str) -> String {
        format!("{}{place}", self.mark)
    }

    /// Runs `ip` at a place.
    pub fn ip(&self, place: &str, arguments: &str) {
        netns::ip(&format!("-n {} {arguments}", self.name(place)));
    }

    /// A cable from one place to another: at each end an interface of this name that is up.
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

    /// Gives an interface an address, with no time of probation if that is one of IPv6.
    pub fn address(&self, place: &str, interface: &str, address: &str) {
        let at_once = if address.contains(':') { " nodad" } else { "" };
        self.ip(
            place,
            &format!("addr add {address} dev {interface}{at_once}"),
        );
    }

    /// A command at a place, with its outputs collected.
    pub fn at(&self, place: &str, command: &Command) -> Command {
        netns::inside(&self.name(place), command)
    }

    /// Runs a line of shell at a place.
    pub fn shell(&self, place: &str, line: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let output = self.at(place, &shell).output().expect("ip runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {words}");
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for name in &self.names {
            netns::delete(&self.name(name));
        }
    }
}

/// Runs tests that make places.
pub fn run_tests(tests: &[(&'static str, fn())]) -> ExitCode {
    Tests::default()
        .needing(&[Need::Namespaces, IP, NFT, ETHTOOL], tests.to_vec())
        .run()
}

/// Waits for a ticket whose addresses are as wanted; the ticket.
pub fn await_ticket(sender: &mut Sender, wanted: impl Fn(&[Multiaddr]) -> bool) -> String {
    loop {
        let open = sender.await_event("share_open");
        let code = open["code"].as_str().unwrap();
        if wanted(&ShareCode::parse(code).unwrap().addresses()) {
            return code.to_owned();
        }
    }
}
