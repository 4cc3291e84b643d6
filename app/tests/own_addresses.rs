//! A computer announces only addresses of its own, whatever kinds of interfaces it has. The computers are network
//! namespaces with cables between them.

mod support;

use std::fs;
use std::process::ExitCode;

use handover_core::Multiaddr;
use handover_test_needs::{Tests, tests};
use support::places::{self, Places, await_ticket, names};
use support::{Outcome, Scene, Sender, noise};

fn main() -> ExitCode {
    let tests = tests![
        a_point_to_point_interface_is_told_by_its_own_end,
        a_point_to_point_interface_of_ipv6_is_told_by_its_own_end,
        a_vpn_that_comes_up_later_is_told_of_and_one_that_goes_is_not,
        an_idle_bridge_is_not_told_of_until_it_is_used,
        a_computer_with_ipv6_alone_finds_one_with_both_families,
    ];
    Tests::default().needing(places::NEEDS, tests).run()
}

/// Shares a file at a place, to be fetched with the ticket alone.
fn share(scene: &Scene, places: &Places, place: &str) -> Sender {
    let file = scene.file("sent", &noise(3_000_000, 7));
    let mut send = scene.bare(&["send", "--lan", "--json", "--no-dht", "--no-mdns"]);
    send.arg("--data-dir");
    send.arg(scene.path("sender")).arg(file);
    Sender::start_unopened(places.at(place, &send))
}

fn get(scene: &Scene, places: &Places, place: &str, ticket: &str) -> Outcome {
    let mut get = scene.bare(&[
        "get",
        "--yes",
        "--json",
        "--no-dht",
        "--no-mdns",
        "--data-dir",
    ]);
    get.arg(scene.path("receiver"))
        .arg("--to")
        .arg(scene.path("got"))
        .env("HANDOVER_CODE", ticket);
    let got = support::run(places.at(place, &get)).expect(0);
    assert!(fs::read(scene.path("got/sent")).unwrap() == noise(3_000_000, 7));
    got
}

/// Two computers whose only interface is a point-to-point link to the other.
fn point_to_point(mark: &str, ends: [&str; 2]) {
    let scene = Scene::new();
    let places = Places::new(mark, &["a", "b"]);
    places.cable([("a", "ppp0"), ("b", "ppp0")]);
    let [a, b] = ends;
    places.address("a", "ppp0", &format!("{a} peer {b}"));
    places.address("b", "ppp0", &format!("{b} peer {a}"));
    let mut sender = share(&scene, &places, "a");
    let ticket = await_ticket(&mut sender, |addresses| {
        assert!(
            !addresses.iter().any(|address| names(address, b)),
            "the other end's address is told as an own one: {addresses:?}"
        );
        addresses.iter().filter(|address| names(address, a)).count() == 2
    });
    let got = get(&scene, &places, "b", &ticket);
    assert_eq!(got.event("connected")["path"], "lan", "{got:?}");
    let joined = sender.await_event("receiver_joined");
    assert_eq!(joined["path"], "lan", "{joined}");
}

fn a_point_to_point_interface_is_told_by_its_own_end() {
    point_to_point("p4", ["10.98.0.1", "10.98.0.2"]);
}

fn a_point_to_point_interface_of_ipv6_is_told_by_its_own_end() {
    point_to_point("p6", ["fd98::1", "fd98::2"]);
}

fn a_vpn_that_comes_up_later_is_told_of_and_one_that_goes_is_not() {
    let scene = Scene::new();
    let places = Places::new("v", &["a", "b"]);
    places.cable([("a", "eth0"), ("b", "eth0")]);
    places.address("a", "eth0", "10.97.0.1/24");
    let mut sender = share(&scene, &places, "a");
    let told = |ip: &'static str| {
        move |addresses: &[Multiaddr]| addresses.iter().any(|address| names(address, ip))
    };
    await_ticket(&mut sender, told("10.97.0.1"));

    places.cable([("a", "tun0"), ("b", "tun0")]);
    places.address("a", "tun0", "10.98.0.1 peer 10.98.0.2");
    places.address("b", "tun0", "10.98.0.2 peer 10.98.0.1");
    let ticket = await_ticket(&mut sender, told("10.98.0.1"));
    get(&scene, &places, "b", &ticket);

    places.ip("a", "link del tun0");
    await_ticket(&mut sender, |addresses| !told("10.98.0.1")(addresses));
}

/// Docker's bridge has an address as soon as Docker runs, but it leads nowhere until a container runs.
fn an_idle_bridge_is_not_told_of_until_it_is_used() {
    let scene = Scene::new();
    let places = Places::new("d", &["a", "b"]);
    places.cable([("a", "eth0"), ("b", "eth0")]);
    places.address("a", "eth0", "10.97.0.1/24");
    places.ip("a", "link add docker0 type bridge");
    places.address("a", "docker0", "172.17.0.1/16");
    places.ip("a", "link set docker0 up");
    // A bridge that never had a port is not yet marked as down.
    places.ip("a", "link add veth0 type veth peer name veth1");
    places.ip("a", "link set veth0 master docker0");
    places.ip("a", "link set veth0 up");
    // The kernel takes up to a second to mark it.
    places.shell(
        "a",
        "until ip link show docker0 | grep -q 'state DOWN'; do sleep 0.1; done",
    );
    let mut sender = share(&scene, &places, "a");
    let bridge =
        |addresses: &[Multiaddr]| addresses.iter().any(|address| names(address, "172.17.0.1"));
    await_ticket(&mut sender, |addresses| {
        assert!(
            !bridge(addresses),
            "an idle bridge is told of: {addresses:?}"
        );
        addresses
            .iter()
            .filter(|address| names(address, "10.97.0.1"))
            .count()
            == 2
    });
    places.ip("a", "link set veth1 up");
    await_ticket(&mut sender, bridge);
}

/// By short code: mDNS is sent over both families at once.
fn a_computer_with_ipv6_alone_finds_one_with_both_families() {
    let scene = Scene::new();
    let places = Places::new("m", &["a", "b"]);
    places.cable([("a", "eth0"), ("b", "eth0")]);
    places.address("a", "eth0", "10.97.0.1/24");
    places.address("a", "eth0", "fd97::1/64");
    places.address("b", "eth0", "fd97::2/64");
    places.ip("a", "route add 224.0.0.0/4 dev eth0");
    let file = scene.file("sent", &noise(3_000_000, 7));
    let mut send = scene.bare(&["send", "--json", "--data-dir"]);
    send.arg(scene.path("sender")).arg(file);
    let mut sender = Sender::start_unopened(places.at("a", &send));
    let code = sender.await_code("short");
    let mut get = scene.bare(&["get", "--yes", "--json", "--data-dir"]);
    get.arg(scene.path("receiver"))
        .arg("--to")
        .arg(scene.path("got"))
        .env("HANDOVER_CODE", code);
    let got = support::run(places.at("b", &get)).expect(0);
    assert_eq!(got.event("connected")["path"], "lan", "{got:?}");
}
