//! The tests.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use handover_nat_lab::foreign::{Software, Store};
use serde_json::json;

use super::dns::{self, Record};
use super::peers::{Ended, Node, Program, Transfer, handover};

/// Every test, by its name.
pub const ALL: [(&str, fn()); 12] = [
    (
        "a_foreign_client_finds_us_by_the_protocol_alone_and_identifies_us",
        a_foreign_client_finds_us,
    ),
    ("a_node_with_an_rsa_identity_is_reached_kubo", || {
        reached(Software::Kubo)
    }),
    ("a_node_with_an_rsa_identity_is_reached_js", || {
        reached(Software::JsRsa)
    }),
    ("a_node_with_a_secp256k1_identity_is_reached", || {
        reached(Software::JsSecp256k1)
    }),
    ("a_node_with_an_ecdsa_identity_is_reached", || {
        reached(Software::P2pdEcdsa)
    }),
    ("a_node_with_an_ed25519_identity_is_reached", || {
        reached(Software::JsEd25519)
    }),
    ("a_short_code_works_over_js_alone", js_alone),
    (
        "a_js_relay_of_128_kib_carries_a_file_by_many_circuits",
        small_circuits,
    ),
    (
        "a_short_code_works_over_go_libp2p_daemon_by_tcp",
        p2pd_by_tcp,
    ),
    ("names_and_nested_dnsaddr_lead_to_a_node", names),
    ("a_fifth_of_all_packets_lost_is_no_reason_to_fail", loss),
    (
        "a_relay_that_is_full_and_a_dht_that_lies_are_passed_over",
        full_and_lying,
    ),
];

/// `doctor` with this node alone.
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

/// A client by js-libp2p computes the meeting point from the number and the day, as PROTOCOL.md has it.
fn a_foreign_client_finds_us() {
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
    // None of it has cost the share anything.
    transfer.fetch(&code);
    sharer.event("receiver_left");
}

fn js_alone() {
    let first = Node::start(Software::JsRsa);
    let second = Node::among(Software::JsSecp256k1, &[&first]);
    let third = Node::among(Software::JsEd25519, &[&first, &second]);
    let nodes = [&first, &second, &third].map(Node::tcp);
    Transfer::by(nodes, 1_000_000).make();
}

/// How many bytes this relay has carried, and over how many circuits.
fn carried(got: &Ended, relay: &Node) -> (u64, u64) {
    let carried = got.named("carried");
    let by_it = carried
        .iter()
        .find(|event| event["relay"] == relay.id.as_str());
    let by_it = by_it.unwrap_or_else(|| panic!("not by {}: {got:#?}", relay.id));
    let count = |field: &str| by_it[field].as_u64().unwrap();
    (count("bytes"), count("cuts"))
}

fn small_circuits() {
    const BYTES: usize = 4_000_000;
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
    // The limit is told by the relay, and every circuit is left before it is cut: nothing has to be sent twice.
    assert_eq!(cuts, 0, "{got:#?}");
    // A part of it is for what stands around the link.
    let limit = CIRCUIT * 9 / 10..CIRCUIT;
    let circuits = got.named("circuits");
    assert!(
        circuits.iter().any(|event| event["bytes"]
            .as_u64()
            .is_some_and(|bytes| limit.contains(&bytes))),
        "{got:#?}"
    );
}

fn p2pd_by_tcp() {
    let relay = Node::start(Software::P2pd);
    let transfer = Transfer::by([relay.tcp()], 2_000_000);
    let got = transfer.with(&["--transport", "tcp", "--no-direct"]).make();
    assert!(carried(&got, &relay).0 >= 2_000_000);
}

fn names() {
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

/// What goes to and comes from the one relay loses every fifth packet.
fn loss() {
    let relay = Node::start(Software::JsRsa);
    let ip = relay.ip;
    let rules = format!(
        "table ip loss {{\nchain inwards {{\ntype filter hook input priority 0;\n\
         ip saddr {ip} numgen random mod 5 0 drop\nip daddr {ip} numgen random mod 5 0 drop\n}}\n}}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules");
    std::fs::write(&file, rules).unwrap();
    let loaded = Command::new("nft").arg("-f").arg(file).status().unwrap();
    assert!(loaded.success());
    let got = Transfer::by([relay.tcp()], 100_000)
        .with(&["--no-direct"])
        .make();
    assert!(carried(&got, &relay).0 >= 100_000);
}

fn full_and_lying() {
    let good = Node::start(Software::JsRsa);
    let full = Node::among(Software::JsFull, &[&good]);
    let lying = Node::among(Software::Lying, &[&good, &full]);
    let nodes = [&lying, &full, &good].map(Node::tcp);
    let got = Transfer::by(nodes, 300_000).with(&["--no-direct"]).make();
    // One that lies about others may be an honest relay.
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
