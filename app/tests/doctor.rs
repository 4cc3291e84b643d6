//! The diagnosis by `doctor` in a private network, and without one.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use rustix::process::Signal;
use support::{Outcome, Scene, Sender, run};

/// Starts a node on loopback. Returns it with its address.
fn node(scene: &Scene) -> (Sender, String) {
    let arguments = ["node", "--private", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut command = scene.handover("node", &arguments);
    command.arg("--json");
    let mut node = Sender::start_unopened(command);
    let address = node.await_event("node_address")["address"].clone();
    (node, address.as_str().unwrap().to_string())
}

fn doctor(scene: &Scene, bootstrap: &str, options: &[&str]) -> Outcome {
    let arguments = [
        "doctor",
        "--loopback",
        "--no-mdns",
        "--bootstrap",
        bootstrap,
    ];
    let mut command = scene.handover("patient", &arguments);
    command.args(options);
    run(command)
}

#[test]
fn a_node_that_answers_is_a_network() {
    let scene = Scene::new();
    let (node, address) = node(&scene);
    let found = doctor(&scene, &address, &["--json"])
        .expect(0)
        .event("doctor");
    assert_eq!(found["bootstrap_nodes"], 1, "{found}");
    assert_eq!(found["bootstrap_reached"], 1, "{found}");
    assert_eq!(found["dht"], "answers", "{found}");
    assert!(found["dht_millis"].is_u64(), "{found}");
    assert_eq!(found["reachable"], "assumed", "{found}");
    assert_eq!(found["expect"], "direct", "{found}");

    let told = doctor(&scene, &address, &[]).expect(0).stderr;
    assert!(told.contains("✓ Bootstrap: 1 of 1 node reached"), "{told}");
    assert!(told.contains("✓ DHT: it answers"), "{told}");

    node.signal(Signal::TERM);
    assert_eq!(node.wait().0, Some(0));
}

#[test]
fn where_nobody_listens_there_is_only_the_local_network() {
    let scene = Scene::new();
    // Bound, so that no other process listens there, and never accepting.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let nobody = format!(
        "/ip4/127.0.0.1/tcp/{port}/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    );
    let found = doctor(&scene, &nobody, &["--json"])
        .expect(3)
        .event("doctor");
    assert_eq!(found["bootstrap_reached"], 0, "{found}");
    assert_eq!(found["dht"], "silent", "{found}");
    assert_eq!(found["expect"], "local_network", "{found}");

    let told = doctor(&scene, &nobody, &["--wait", "1"]).expect(3).stderr;
    assert!(told.contains("✗ Bootstrap: 0 of 1 node reached"), "{told}");
    assert!(told.contains("only this local network"), "{told}");
}

/// Answers every connection like the web server of a captive portal.
fn portal() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut asked = [0; 64];
                let answer = b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n";
                if socket.read(&mut asked).is_ok_and(|read| read > 0) {
                    socket.write_all(answer).unwrap();
                    // Until the other side closes.
                    let _ = socket.read(&mut asked);
                }
            });
        }
    });
    port
}

const SOMEBODY: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

#[test]
fn a_captive_portal_is_not_taken_for_a_firewall() {
    let scene = Scene::new();
    let portal = format!("/ip4/127.0.0.1/tcp/{}/p2p/{SOMEBODY}", portal());
    let found = doctor(&scene, &portal, &["--json"])
        .expect(3)
        .event("doctor");
    assert_eq!(found["obstacle"], "portal", "{found}");
    let node = &found["bootstrap"][0];
    assert_eq!(node["peer"], SOMEBODY, "{found}");
    assert_eq!(node["addresses"][0]["outcome"], "http", "{found}");

    let told = doctor(&scene, &portal, &["-v"]).expect(3).stderr;
    assert!(told.contains("captive portal"), "{told}");
    assert!(told.contains("HTTP was answered there"), "{told}");
}

#[test]
fn nodes_that_speak_another_transport_are_not_taken_for_a_firewall() {
    let scene = Scene::new();
    let websocket = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{SOMEBODY}");
    let found = doctor(&scene, &websocket, &["--json"])
        .expect(3)
        .event("doctor");
    assert_eq!(found["obstacle"], "other_protocols", "{found}");
    let told = doctor(&scene, &websocket, &["-v"]).expect(3).stderr;
    assert!(told.contains("the address is not supported"), "{told}");
    assert!(!told.contains("Check the firewall"), "{told}");
}
