//! Defective paths, between two computers with two routers between them.

mod support;

use std::process::ExitCode;

use handover_test_needs::{Tests, tests};
use support::places::{self, Places, await_ticket, names};
use support::{Process, Scene, Sender, eventually, noise};

fn main() -> ExitCode {
    let tests = tests![
        small_packets_without_a_word_carry_a_transfer_over_tcp,
        small_packets_without_a_word_carry_a_transfer_over_quic,
        ipv4_is_tried_while_nothing_comes_back_over_ipv6,
        without_any_network_the_log_names_no_address,
    ];
    Tests::default().needing(places::NEEDS, tests).run()
}

/// quinn once warned of every address that nothing could be sent to.
fn without_any_network_the_log_names_no_address() {
    let places = Places::new("w", &["a"]);
    let scene = Scene::new();
    for (verbosity, names_it) in [("-v", false), ("-vv", true)] {
        let mut get = scene.handover("a", &["get", "--yes", "--wait", "4", verbosity]);
        get.args(["--bootstrap", NODE]);
        get.env("HANDOVER_CODE", "4827193-amber-otter");
        let log = Process::start(places.at("a", &get)).wait().stderr;
        assert_eq!(log.contains("198.18.0.1"), names_it, "{verbosity}: {log}");
    }
}

/// A node that cannot be reached from anywhere.
const NODE: &str =
    "/ip4/198.18.0.1/udp/4001/quic-v1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";

/// Gives an interface an address of each family: number `end` in network `net`.
fn both_families(places: &Places, place: &str, interface: &str, (net, end): (u8, u8)) {
    places.address(place, interface, &format!("11.{net}.0.{end}/24"));
    places.address(place, interface, &format!("2a11:{net}::{end}/64"));
}

/// Routes everything else through this network's router.
fn default_routes(places: &Places, place: &str, net: u8) {
    places.ip(place, &format!("route add default via 11.{net}.0.1"));
    places.ip(place, &format!("-6 route add default via 2a11:{net}::1"));
}

/// The computers `a` and `b`, and the routers `r` and `s` between them. The link between the routers has an MTU of
/// 1,280 bytes, and neither router reports the packets that it drops.
fn narrow(mark: &str) -> Places {
    let places = Places::new(mark, &["a", "r", "s", "b"]);
    places.cable([("a", "eth0"), ("r", "lan")]);
    places.cable([("r", "wan"), ("s", "wan")]);
    places.cable([("s", "lan"), ("b", "eth0")]);
    for (place, interface, net, end) in [
        ("a", "eth0", 1, 2),
        ("r", "lan", 1, 1),
        ("r", "wan", 9, 1),
        ("s", "wan", 9, 2),
        ("s", "lan", 2, 1),
        ("b", "eth0", 2, 2),
    ] {
        both_families(&places, place, interface, (net, end));
    }
    for (place, net) in [("a", 1), ("b", 2)] {
        default_routes(&places, place, net);
        // Linux's own workaround, off by default; here it is certainly off.
        places.shell(place, "echo 0 > /proc/sys/net/ipv4/tcp_mtu_probing");
    }
    for (place, net, other) in [("r", 2, 2), ("s", 1, 1)] {
        places.ip(place, "link set wan mtu 1280");
        places.forwards(place);
        places.ip(
            place,
            &format!("route add 11.{net}.0.0/24 via 11.9.0.{other}"),
        );
        places.ip(
            place,
            &format!("-6 route add 2a11:{net}::/64 via 2a11:9::{other}"),
        );
        places.rules(
            place,
            "table inet silence { chain output { type filter hook output priority 0;
                icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }",
        );
    }
    places
}

/// Transfers a file from `a` to `b` over each family.
fn hand_over(mark: &str, transport: &str, ports: [&str; 2]) {
    let places = narrow(mark);
    for listen in ports {
        let scene = Scene::new();
        let file = scene.file("sent", &noise(3_000_000, 11));
        let options = ["--json", "--no-dht", "--no-mdns", "--transport", transport];
        let mut send = scene.bare(&["send", "--listen", listen, "--data-dir"]);
        send.arg(scene.path("sender")).args(options).arg(file);
        let mut sender = Sender::start_unopened(places.at("a", &send));
        let address = if listen.contains("ip6") {
            "2a11:1::2"
        } else {
            "11.1.0.2"
        };
        let ticket = await_ticket(&mut sender, |addresses| {
            addresses.iter().any(|told| names(told, address))
        });
        let mut get = scene.bare(&["get", "--yes", "--data-dir"]);
        get.arg(scene.path("receiver"))
            .args(options)
            .arg("--to")
            .arg(scene.path("got"))
            .env("HANDOVER_CODE", &ticket);
        support::run(places.at("b", &get)).expect(0);
        let got = std::fs::read(scene.path("got/sent")).unwrap();
        assert!(got == noise(3_000_000, 11), "{listen}");
    }
}

fn small_packets_without_a_word_carry_a_transfer_over_tcp() {
    hand_over("t", "tcp", ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"]);
}

fn small_packets_without_a_word_carry_a_transfer_over_quic() {
    let ports = ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip6/::/udp/4001/quic-v1"];
    hand_over("q", "quic", ports);
}

/// The computers `a` and `b`, and a router between them that drops all IPv6, and at first IPv4 too.
fn black_hole() -> Places {
    let places = Places::new("h", &["a", "r", "b"]);
    places.cable([("a", "eth0"), ("r", "one")]);
    places.cable([("r", "two"), ("b", "eth0")]);
    for (place, interface, net, end) in [
        ("a", "eth0", 1, 2),
        ("r", "one", 1, 1),
        ("r", "two", 2, 1),
        ("b", "eth0", 2, 2),
    ] {
        both_families(&places, place, interface, (net, end));
    }
    default_routes(&places, "a", 1);
    default_routes(&places, "b", 2);
    places.forwards("r");
    places.rules(
        "r",
        "table ip6 hole { chain through { type filter hook forward priority 0; policy drop; }; }
         table ip closed { chain through { type filter hook forward priority 0; policy drop; }; }",
    );
    places
}

/// True if a TCP connection attempt at a place awaits an answer, according to the kernel's list for this family.
fn is_calling(places: &Places, place: &str, list: &str) -> bool {
    const SYN_SENT: &str = "02";
    let sockets = places.shell(place, &format!("cat /proc/net/{list}"));
    let mut states = sockets.lines().map(|line| line.split_whitespace().nth(3));
    states.any(|state| state == Some(SYN_SENT))
}

/// Both families are dialled at the same time, which is observable while neither answers.
fn ipv4_is_tried_while_nothing_comes_back_over_ipv6() {
    let places = black_hole();
    let scene = Scene::new();
    let file = scene.file("sent", &noise(3_000_000, 12));
    let options = ["--json", "--no-dht", "--no-mdns", "--data-dir"];
    let mut send = scene.bare(&["send"]);
    send.args(options).arg(scene.path("sender")).arg(file);
    let mut sender = Sender::start_unopened(places.at("a", &send));
    let ticket = await_ticket(&mut sender, |addresses| {
        let told = |ip| addresses.iter().any(|told| names(told, ip));
        told("11.1.0.2") && told("2a11:1::2")
    });
    let mut get = scene.bare(&["get", "--yes", "--wait", "300"]);
    get.args(options)
        .arg(scene.path("receiver"))
        .arg("--to")
        .arg(scene.path("got"))
        .env("HANDOVER_CODE", &ticket);
    let get = Process::start(places.at("b", &get));
    eventually("calls over both families at once", || {
        is_calling(&places, "b", "tcp") && is_calling(&places, "b", "tcp6")
    });
    places.shell("r", "nft delete table ip closed");
    let got = get.wait().expect(0);
    assert_eq!(got.event("connected")["path"], "direct", "{got:?}");
    assert!(std::fs::read(scene.path("got/sent")).unwrap() == noise(3_000_000, 12));
}
