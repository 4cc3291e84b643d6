//! Paths that are not as they should be, between two computers with two routers between them.

mod support;

use std::process::ExitCode;

use support::places::{Places, run_tests};
use support::{Scene, Sender, noise};

fn main() -> ExitCode {
    run_tests(&[
        (
            "small_packets_without_a_word_carry_a_transfer_over_tcp",
            small_packets_without_a_word_carry_a_transfer_over_tcp,
        ),
        (
            "small_packets_without_a_word_carry_a_transfer_over_quic",
            small_packets_without_a_word_carry_a_transfer_over_quic,
        ),
    ])
}

/// The computers `a` and `b`, and the routers `r` and `s` between them. Between those packets are of 1,280 bytes at the
/// most, and neither says so to anybody whose packets it drops.
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
        places.address(place, interface, &format!("11.{net}.0.{end}/24"));
        places.address(place, interface, &format!("2a11:{net}::{end}/64"));
    }
    for (place, net) in [("a", 1), ("b", 2)] {
        places.ip(place, &format!("route add default via 11.{net}.0.1"));
        places.ip(place, &format!("-6 route add default via 2a11:{net}::1"));
        // Linux's own cure, which is off by default; here for certain.
        places.shell(place, "echo 0 > /proc/sys/net/ipv4/tcp_mtu_probing");
    }
    for (place, net, other) in [("r", 2, 2), ("s", 1, 1)] {
        places.ip(place, "link set wan mtu 1280");
        places.shell(place, "echo 1 > /proc/sys/net/ipv4/ip_forward");
        places.shell(place, "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        places.ip(
            place,
            &format!("route add 11.{net}.0.0/24 via 11.9.0.{other}"),
        );
        places.ip(
            place,
            &format!("-6 route add 2a11:{net}::/64 via 2a11:9::{other}"),
        );
        places.shell(
            place,
            "echo 'table inet silence { chain output { type filter hook output priority 0;
                icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }' | nft -f -",
        );
    }
    places
}

/// Hands a file from `a` to `b` over each family.
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
        let ticket = support::places::await_ticket(&mut sender, |addresses| {
            addresses
                .iter()
                .any(|told| told.to_string().contains(address))
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
