//! The tests with foreign nodes.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use handover_nat_lab::foreign::{Software, Store};
use handover_test_needs::{Test, tests};
use serde_json::json;

use super::dns::{self, Record};
use super::peers::{Ended, Node, Program, Transfer, handover};
use super::room;

/// A peer ID without a key.
const NOBODY: &str = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";

/// Returns all tests.
pub fn all() -> Vec<Test> {
    tests![
        a_foreign_client_finds_us_by_the_protocol_alone_and_is_refused_politely,
        a_node_with_an_rsa_identity_is_reached_kubo,
        a_node_with_an_rsa_identity_is_reached_js,
        a_node_with_a_secp256k1_identity_is_reached,
        a_node_with_an_ecdsa_identity_is_reached,
        a_node_with_an_ed25519_identity_is_reached,
        a_short_code_works_over_js_alone,
        a_js_relay_of_128_kib_carries_a_file_by_many_circuits,
        a_short_code_works_over_go_libp2p_daemon_by_tcp,
        a_short_code_works_over_go_libp2p_daemon_by_tcp_and_quic,
        bad_nodes_beside_a_good_one_are_no_reason_to_fail,
        names_and_nested_dnsaddr_lead_to_a_node,
        a_fifth_of_all_packets_lost_is_no_reason_to_fail,
        a_relay_that_is_full_and_a_dht_that_lies_are_passed_over,
    ]
}

fn a_node_with_an_rsa_identity_is_reached_kubo() {
    reached(Software::Kubo);
}

fn a_node_with_an_rsa_identity_is_reached_js() {
    reached(Software::JsRsa);
}

fn a_node_with_a_secp256k1_identity_is_reached() {
    reached(Software::JsSecp256k1);
}

fn a_node_with_an_ecdsa_identity_is_reached() {
    reached(Software::P2pdEcdsa);
}

fn a_node_with_an_ed25519_identity_is_reached() {
    reached(Software::JsEd25519);
}

/// Runs `doctor` with this node only.
fn reached(software: Software) {
    let node = Node::start(software);
    for address in &node.addresses {
        let told = doctor(address);
        let reached = (&told["bootstrap_reached"], &told["bootstrap_nodes"]);
        assert_eq!(reached, (&json!(1), &json!(1)), "{address}: {told}");
        assert_eq!(told["dht"], "answers", "{address}: {told}");
    }
}

fn doctor(address: &str) -> serde_json::Value {
    let data = tempfile::tempdir().unwrap();
    let mut command = handover(data.path());
    command.args(["doctor", "--json", "--no-mdns", "--bootstrap", address]);
    let ended = Program::start(&mut command).end();
    let found = ended.named("doctor").last().map(|event| (*event).clone());
    found.unwrap_or_else(|| panic!("{ended:#?}"))
}

/// A js-libp2p client computes the rendezvous point from the number and the day, as PROTOCOL.md specifies.
fn a_foreign_client_finds_us_by_the_protocol_alone_and_is_refused_politely() {
    let node = Node::start(Software::JsRsa);
    let direct = "/ip4/11.7.1.60/tcp/4002";
    let transfer = Transfer::by([node.tcp()], 1000);
    let (mut sharer, code) = transfer.share_at(&["--listen", direct]);
    let number: u32 = code.split('-').next().unwrap().parse().unwrap();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let day = since.as_secs() / (24 * 60 * 60);
    let order = json!({ "known": [node.tcp()], "number": number, "day": day, "direct": direct });
    let store = Store::open().unwrap();
    let mut command = Command::new(store.node());
    command.arg(store.file("client.mjs")).arg(order.to_string());
    let client = Program::start(&mut command).end().good();
    let [provider] = client.named("provider")[..] else {
        panic!("{client:#?}");
    };
    assert!(
        !provider["addresses"].as_array().unwrap().is_empty(),
        "{client:#?}"
    );
    let [identified] = client.named("identified")[..] else {
        panic!("{client:#?}");
    };
    assert_eq!(identified["protocol"], "/handover/1.0.0");
    let protocols = identified["protocols"].as_array().unwrap();
    assert!(
        protocols.contains(&json!("/handover/link/1")),
        "{identified}"
    );
    assert_eq!(client.named("pinged").len(), 2, "{client:#?}");
    let answered = client.named("answered");
    let answers: Vec<[&str; 3]> = answered
        .iter()
        .map(|event| ["knock", "reason", "then"].map(|field| event[field].as_str().unwrap()))
        .collect();
    assert_eq!(
        answers,
        [
            ["stranger", "no_such_share", "closed"],
            ["past", "version", "closed"],
            ["future", "version", "closed"],
            ["nonsense", "no_such_share", "closed"],
            ["guess", "wrong_words", "closed"],
        ],
        "{client:#?}"
    );
    // The client cost the share no more than one wrong guess.
    transfer.fetch(&code);
    sharer.event("receiver_left");
}

/// Six DHT servers, two of which are relays that accept reservations.
fn a_short_code_works_over_js_alone() {
    let kinds = [
        Software::JsRsa,
        Software::JsFull,
        Software::JsSecp256k1,
        Software::JsFull,
        Software::JsFull,
        Software::JsFull,
    ];
    let mut nodes: Vec<Node> = Vec::new();
    for kind in kinds {
        let known: Vec<&Node> = nodes.iter().collect();
        nodes.push(Node::among(kind, &known));
    }
    Transfer::by(nodes.iter().map(Node::tcp), 1_000_000).make();
}

/// Returns how many bytes this relay carried, and how many of its circuits were cut.
fn carried(got: &Ended, relay: &Node) -> (u64, u64) {
    let carried = got.named("carried");
    let by_it = carried
        .iter()
        .find(|event| event["relay"] == relay.id.as_str());
    let by_it = by_it.unwrap_or_else(|| panic!("not by {}: {got:#?}", relay.id));
    let count = |field: &str| by_it[field].as_u64().unwrap();
    (count("bytes"), count("cuts"))
}

fn a_js_relay_of_128_kib_carries_a_file_by_many_circuits() {
    const BYTES: usize = 20_000_000;
    const CIRCUIT: u64 = 128 << 10;
    let relay = Node::start(Software::JsRsa);
    let got = Transfer::by([relay.tcp()], BYTES)
        .with(&["--no-direct"])
        .make();
    let paths = got.named("connected");
    assert!(
        paths.iter().all(|event| event["path"] == "relayed"),
        "{got:#?}"
    );
    let (bytes, cuts) = carried(&got, &relay);
    assert!(bytes >= BYTES as u64, "{got:#?}");
    // The relay announces its limit, and every circuit is left before the relay cuts it, so nothing is sent twice.
    assert_eq!(cuts, 0, "{got:#?}");
    // Protocols around the link use part of the limit.
    let limit = CIRCUIT * 9 / 10..CIRCUIT;
    let circuits = got.named("circuits");
    assert!(
        circuits.iter().any(|event| event["bytes"]
            .as_u64()
            .is_some_and(|bytes| limit.contains(&bytes))),
        "{got:#?}"
    );
}

fn a_short_code_works_over_go_libp2p_daemon_by_tcp() {
    let relay = Node::start(Software::P2pd);
    let transfer = Transfer::by([relay.tcp()], 20_000_000);
    let got = transfer.with(&["--transport", "tcp", "--no-direct"]).make();
    assert!(carried(&got, &relay).0 >= 20_000_000);
}

/// Both sides connect to the relay over TCP and over QUIC. The relay opens circuits on either connection.
fn a_short_code_works_over_go_libp2p_daemon_by_tcp_and_quic() {
    let relay = Node::start(Software::P2pd);
    let addresses = relay.addresses.iter().map(String::as_str);
    let transfer = Transfer::by(addresses, 1_000_000);
    let got = transfer.with(&["--no-direct"]).make();
    assert!(carried(&got, &relay).0 >= 1_000_000);
}

/// Three nodes that never answer, and one with an unknown DNS name.
fn bad_nodes_beside_a_good_one_are_no_reason_to_fail() {
    let good = Node::start(Software::JsRsa);
    let holes = room::black_holes();
    let mut nodes: Vec<String> = holes
        .iter()
        .map(|hole| format!("/ip4/{hole}/tcp/4001/p2p/{NOBODY}"))
        .collect();
    nodes.push(format!("/dns4/nowhere.test/tcp/4001/p2p/{NOBODY}"));
    nodes.push(good.tcp().to_owned());
    Transfer::by(nodes.iter().map(String::as_str), 1_000_000).make();
}

fn names_and_nested_dnsaddr_lead_to_a_node() {
    let node = Node::start(Software::JsRsa);
    let text = |address: String| Record::Text(vec![format!("dnsaddr={address}")]);
    let id = &node.id;
    dns::serve(BTreeMap::from([
        ("node.test".into(), Record::A(node.ip)),
        ("_dnsaddr.one.test".into(), text(node.tcp().to_owned())),
        (
            "_dnsaddr.nested.test".into(),
            text(format!("/dnsaddr/one.test/p2p/{id}")),
        ),
        (
            "_dnsaddr.twice.test".into(),
            text(format!("/dnsaddr/nested.test/p2p/{id}")),
        ),
    ]));
    for address in [
        format!("/dns4/node.test/tcp/4001/p2p/{id}"),
        format!("/dnsaddr/one.test/p2p/{id}"),
        format!("/dnsaddr/nested.test/p2p/{id}"),
        format!("/dnsaddr/twice.test/p2p/{id}"),
    ] {
        let told = doctor(&address);
        assert_eq!(told["bootstrap_reached"], 1, "{address}: {told}");
    }
}

/// Every fifth packet to and from the only relay is lost.
fn a_fifth_of_all_packets_lost_is_no_reason_to_fail() {
    let relay = Node::start(Software::JsRsa);
    let ip = relay.ip;
    room::rules(&format!(
        "table ip loss {{ chain inwards {{ type filter hook input priority 0;
            ip saddr {ip} numgen random mod 5 0 drop; ip daddr {ip} numgen random mod 5 0 drop; }}; }}"
    ));
    let got = Transfer::by([relay.tcp()], 100_000)
        .with(&["--no-direct"])
        .make();
    assert!(carried(&got, &relay).0 >= 100_000);
}

fn a_relay_that_is_full_and_a_dht_that_lies_are_passed_over() {
    let good = Node::start(Software::JsRsa);
    let full = Node::among(Software::JsFull, &[&good]);
    let lying = Node::among(Software::Lying, &[&good, &full]);
    let nodes = [&lying, &full, &good].map(Node::tcp);
    let got = Transfer::by(nodes, 300_000).with(&["--no-direct"]).make();
    // A node with a lying DHT may still be an honest relay.
    let carried = got.named("carried");
    assert!(
        carried
            .iter()
            .all(|event| event["relay"] != full.id.as_str()),
        "{got:#?}"
    );
    let bytes = carried.iter().map(|event| event["bytes"].as_u64().unwrap());
    assert!(bytes.sum::<u64>() >= 300_000);
}
