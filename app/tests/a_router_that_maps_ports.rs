//! Two computers behind gateways whose NATs cannot be hole-punched but which map ports on request: network namespaces,
//! NAT by the kernel, and miniupnpd, which speaks PCP, NAT-PMP and `UPnP`.

// The output shows what was measured.
#![allow(clippy::print_stderr)]

mod support;

use std::process::{Command, ExitCode};

use handover_test_needs::{MINIUPNPD, NFT, Need, Tests, tests};
use support::internet::{Internet, connected};
use support::{Process, Scene, eventually};

fn main() -> ExitCode {
    let tests = tests![
        what_can_not_be_punched_is_direct_by_a_port_mapped_over_pcp,
        what_can_not_be_punched_is_direct_by_a_port_mapped_over_upnp,
    ];
    let needs = &[Need::Namespaces, NFT, MINIUPNPD];
    Tests::default().needing(needs, tests).run()
}

/// Configuration of miniupnpd, without the protocols that it speaks. Its chains are in a table of their own.
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

/// Each gateway maps every destination to a different port and drops unsolicited packets, except those to mapped ports.
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

/// Starts the port mapping daemon of a gateway; returns once it listens.
fn mapper(internet: &Internet, number: u32, scene: &Scene, speaks: &str) -> Process {
    let gateway = format!("g{number}");
    // Without this route, it sends and answers searches on the internet side.
    internet
        .places
        .ip(&gateway, "route add 239.0.0.0/8 dev lan");
    let settings = scene.file(&gateway, format!("{MAPPER}{speaks}").as_bytes());
    let mut mapper = Command::new("miniupnpd");
    mapper.arg("-d").arg("-f").arg(settings);
    mapper.arg("-P").arg(scene.path(&format!("{gateway}.pid")));
    let mut mapper = internet.places.at(&gateway, &mapper);
    let log = scene.path(&format!("{gateway}.log"));
    mapper.stderr(std::fs::File::create(&log).unwrap());
    let mapper = Process::start(mapper);
    eventually("a router that listens", || {
        let told = std::fs::read_to_string(&log).unwrap();
        told.contains("HTTP listening") || told.contains("Listening for NAT-PMP")
    });
    mapper
}

/// The number of ports that a gateway currently maps.
fn mapped(internet: &Internet, gateway: &str) -> usize {
    let listed = internet
        .places
        .shell(gateway, "nft list chain inet mapped inwards");
    listed.matches("dnat").count()
}

/// Transfers a file by short code between hosts whose gateways speak these protocols. The path must be direct in the
/// end, and the sender must remove its mappings. (The receiver may be done before it has any.)
fn hand_over(mark: &str, speaks: &str) {
    let scene = Scene::new();
    let internet = Internet::new(mark, &scene, [RULES, RULES]);
    let _mappers = [1, 2].map(|number| mapper(&internet, number, &scene, speaks));
    let ready = || eventually("ports for TCP and QUIC", || mapped(&internet, "g1") == 2);
    let (got, sender) = internet.hand_over(&scene, &[], ready);
    let paths = connected(&got);
    eprintln!("{speaks:?}: {paths:?}");
    assert_eq!(paths.last().unwrap(), "direct", "{paths:?}");
    sender.signal(rustix::process::Signal::INT);
    sender.wait();
    eventually("the sender's ports given back", || {
        mapped(&internet, "g1") == 0
    });
}

fn what_can_not_be_punched_is_direct_by_a_port_mapped_over_pcp() {
    hand_over("e", "enable_natpmp=yes\nenable_upnp=no\n");
}

fn what_can_not_be_punched_is_direct_by_a_port_mapped_over_upnp() {
    hand_over("f", "enable_natpmp=no\nenable_upnp=yes\n");
}
