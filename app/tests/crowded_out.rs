//! A computer that opens any number of connections does not keep others from connecting. The computers are network
//! namespaces with a switch between them.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use handover_core::code::ShareCode;
use handover_test_needs::{Tests, tests};
use support::places::{self, Places, await_ticket, names};
use support::{Process, Scene, Sender, eventually, noise};

/// Address to crowd out; set when this program runs itself.
const VICTIM: &str = "HANDOVER_TEST_VICTIM";
/// Number of silent connections kept open; a closed one is replaced at once.
const GREEDY: usize = 400;

fn main() -> ExitCode {
    if let Ok(victim) = std::env::var(VICTIM) {
        return crowd(victim.parse().unwrap());
    }
    let tests = tests![
        others_still_fetch_from_a_sharer,
        others_still_begin_with_a_node
    ];
    Tests::default().needing(places::NEEDS, tests).run()
}

/// Opens connections and sends nothing, until it is killed.
fn crowd(victim: SocketAddr) -> ExitCode {
    let connect = || {
        let connected = TcpStream::connect_timeout(&victim, Duration::from_secs(5));
        let open = connected.ok()?;
        open.set_nonblocking(true).ok()?;
        Some(open)
    };
    let mut open: Vec<Option<TcpStream>> = (0..GREEDY).map(|_| connect()).collect();
    std::io::stdout().write_all(b"crowded\n").unwrap();
    loop {
        for place in &mut open {
            let is_open = place.as_mut().is_some_and(|stream| {
                let read = stream.read(&mut [0; 256]);
                read.as_ref().is_ok_and(|read| *read > 0)
                    || read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            });
            if !is_open {
                *place = connect();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A victim, a greedy computer and an honest one, on one switch.
fn street(mark: &str) -> Places {
    let places = Places::new(mark, &["switch", "victim", "greedy", "honest"]);
    places.ip("switch", "link add middle type bridge");
    places.ip("switch", "link set middle up");
    for (place, address) in [("victim", 1), ("greedy", 2), ("honest", 3)] {
        let end = format!("to-{place}");
        places.cable([(place, "eth0"), ("switch", &end)]);
        places.ip("switch", &format!("link set {end} master middle"));
        places.address(place, "eth0", &format!("10.97.0.{address}/24"));
    }
    places
}

/// Starts the greedy computer; returns once all its connections have been open.
fn greedy(places: &Places, scene: &Scene, port: u16) -> Process {
    let log = scene.path("greedy.log");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(VICTIM, format!("10.97.0.1:{port}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = places.at("greedy", &command);
    command.stdout(std::fs::File::create(&log).unwrap());
    let process = Process::start(command);
    eventually("the connections of the greedy one", || {
        std::fs::read_to_string(&log).unwrap().contains("crowded")
    });
    process
}

/// The limit was once 64 connections in all, so silent ones filled it and `get` failed.
fn others_still_fetch_from_a_sharer() {
    let scene = Scene::new();
    let places = street("s");
    let bytes = noise(1_000_000, 7);
    let file = scene.file("sent", &bytes);
    let mut send = scene.bare(&["send", "--lan", "--json", "--no-dht", "--no-mdns"]);
    send.arg("--data-dir").arg(scene.path("sender")).arg(file);
    let mut sender = Sender::start_unopened(places.at("victim", &send));
    let ticket = await_ticket(&mut sender, |addresses| {
        addresses.iter().any(|address| names(address, "10.97.0.1"))
    });
    let addresses = ShareCode::parse(&ticket).unwrap().addresses();
    let mut texts = addresses.iter().map(ToString::to_string);
    let tcp = texts.find(|text| text.contains("/tcp/")).unwrap();
    let port = tcp.split('/').nth(4).unwrap().parse().unwrap();
    let _greedy = greedy(&places, &scene, port);
    for transport in ["tcp", "quic"] {
        let to = scene.path(transport);
        let mut get = scene.bare(&["get", "--yes", "--json", "--no-dht", "--no-mdns"]);
        get.args(["--transport", transport, "--data-dir"]);
        get.arg(scene.path("receiver")).arg("--to").arg(&to);
        get.env("HANDOVER_CODE", &ticket);
        support::run(places.at("honest", &get)).expect(0);
        assert!(
            std::fs::read(to.join("sent")).unwrap() == bytes,
            "{transport}"
        );
    }
}

fn others_still_begin_with_a_node() {
    let scene = Scene::new();
    let places = street("n");
    let at = "/ip4/10.97.0.1/tcp/4001";
    let mut node = scene.bare(&["node", "--private", "--listen", at, "--external", at]);
    node.arg("--data-dir").arg(scene.path("node"));
    let log = scene.path("node.log");
    let mut node = places.at("victim", &node);
    node.stdout(std::fs::File::create(&log).unwrap());
    let _node = Process::start(node);
    let address = || std::fs::read_to_string(&log).unwrap().trim().to_owned();
    eventually("the node's address", || address().contains("/p2p/"));
    let _greedy = greedy(&places, &scene, 4001);
    let mut doctor = scene.bare(&["doctor", "--json", "--no-mdns", "--bootstrap", &address()]);
    doctor.arg("--data-dir").arg(scene.path("honest"));
    let told = support::run(places.at("honest", &doctor));
    let found = told.event("doctor");
    assert_eq!(found["bootstrap_reached"], 1, "{told:?}");
    assert_eq!(found["dht"], "answers", "{told:?}");
}
