//! What the doctor finds in a network of one's own, and where there is none.

mod support;

use std::net::TcpListener;

use rustix::process::Signal;
use support::{Outcome, Scene, Sender, run};

/// A node on loopback, and where it is.
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
    // Bound, so that nobody else listens there, and never accepting.
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
