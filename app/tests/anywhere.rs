//! A node, a sharer and a receiver, as separate processes that share only a short code: they meet in the DHT of a
//! private network, and connect directly or through relays.

// The output shows what was measured.
#![allow(clippy::print_stderr)]

mod support;

use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use support::terminal::Terminal;
use support::{Node, Outcome, Process, Scene, Sender, eventually, noise, run, tree};

/// The options of a peer that uses these bootstrap nodes and no mDNS.
fn at<'a>(nodes: &[&'a Node], more: &[&'a str]) -> Vec<&'a str> {
    let begin = nodes.iter().flat_map(|node| ["--bootstrap", &node.address]);
    ["--no-mdns"]
        .into_iter()
        .chain(begin)
        .chain(more.iter().copied())
        .collect()
}

/// Shares; returns once the short code is announced, with that code.
fn send(scene: &Scene, options: &[&str]) -> (Sender, String) {
    let sent = scene.path("sent");
    let mut command = scene.handover("sender", &["send", "--json"]);
    command.args(options).arg(&sent);
    let mut sender = Sender::start_unopened(command);
    let short = sender.await_announced_code();
    (sender, short)
}

fn paths(outcome: &Outcome, event: &str) -> Vec<Value> {
    let events = outcome.events().into_iter();
    let named = events.filter(|told| told["event"] == event);
    named.map(|told| told["path"].clone()).collect()
}

/// Waits until a sharer has a reservation at each of these relays.
fn reserved(relays: &[&Node]) {
    for relay in relays {
        eventually("a reservation", || relay.counter("relay_reservations") > 0);
    }
}

#[test]
fn a_short_code_is_enough() {
    let scene = Scene::new();
    scene.file("sent/large", &noise(3_000_000, 1));
    scene.file("sent/small", b"small");
    let node = Node::start(&scene, "node", &[]);
    let (sender, code) = send(&scene, &at(&[&node], &["--once"]));
    let started = Instant::now();
    let got = run(scene.get(&code, "got", &at(&[&node], &[]))).expect(0);
    eprintln!(
        "by short code through the DHT, start to end: {:?}",
        started.elapsed()
    );
    assert_eq!(paths(&got, "connected"), ["loopback"]);
    assert_eq!(
        tree::read(&scene.path("got/sent")),
        tree::read(&scene.path("sent"))
    );
    assert_eq!(sender.wait().0, Some(0));
}

#[test]
fn a_sharer_that_is_gone_is_looked_for_in_vain() {
    let scene = Scene::new();
    scene.file("sent", b"bytes");
    let node = Node::start(&scene, "node", &[]);
    let (mut sender, code) = send(&scene, &at(&[&node], &[]));
    sender.signal(Signal::INT);
    sender.await_event("share_ended");
    let options = at(&[&node], &["--wait", "120"]);
    let mut receiver = Sender::start_unopened(scene.get(&code, "got", &options));
    // On a busy machine the node may not be reached in the first round.
    while receiver.await_event("not_found")["reached"] != true {}
    // Once all days by which two clocks may differ have been tried, the date is shown: it may be the cause.
    while receiver.await_event("not_found")["date"].is_null() {}
    receiver.kill();
    let options = at(&[&node], &["--wait", "2"]);
    run(scene.get(&code, "got", &options)).expect(3);
}

/// Number of circuits needed to transfer `bytes` through one relay whose circuits carry 128 KiB, with all addresses
/// hidden.
fn through_small_circuits(bytes: usize) -> u64 {
    let scene = Scene::new();
    scene.file("sent", &noise(bytes, 2));
    let node = Node::start(
        &scene,
        "node",
        &["--circuit-kib", "128", "--circuit-seconds", "120"],
    );
    let (mut sender, code) = send(&scene, &at(&[&node], &["--hide-ip"]));
    reserved(&[&node]);
    let got = run(scene.get(&code, "got", &at(&[&node], &["--hide-ip"]))).expect(0);
    assert_eq!(
        std::fs::read(scene.path("got/sent")).unwrap(),
        noise(bytes, 2)
    );
    let connected = paths(&got, "connected");
    assert!(
        connected.iter().all(|path| path == "relayed"),
        "{connected:?}"
    );
    let joined = sender.await_event("receiver_joined");
    assert_eq!(joined["path"], "relayed");
    // The relay's record is kept: next time another one is tried first.
    let carried = got.event("carried");
    let relay = carried["relay"].as_str().unwrap();
    assert!(node.address.ends_with(relay), "{carried}");
    assert_eq!(carried["bytes"].as_u64(), Some(bytes as u64));
    let peers = run(scene.handover("receiver of got", &["peers", "--json"])).expect(0);
    let peers = peers.events();
    let known = peers.iter().find(|peer| peer["peer"] == relay).unwrap();
    assert_eq!(known["cuts"], carried["cuts"]);
    assert!(
        got.stderr.is_empty() || !got.stderr.contains("panicked"),
        "{}",
        got.stderr
    );
    node.counter("relay_circuits_total")
}

/// Row 12, and the guarantee of `--hide-ip`.
#[test]
fn files_come_through_a_relay_that_hangs_up_after_128_kib() {
    let bytes = 2_000_000;
    let circuits = through_small_circuits(bytes);
    eprintln!("{bytes} bytes came through {circuits} circuits of 128 KiB");
    // Both directions and all handshakes count; so more than this number is needed, but not twice as many.
    let least = u64::try_from(bytes.div_ceil(128 << 10)).unwrap();
    assert!(
        (least..2 * least).contains(&circuits),
        "{circuits} circuits"
    );
}

#[test]
fn a_relay_that_is_killed_is_replaced_by_another_one() {
    let scene = Scene::new();
    scene.file("sent", &noise(60_000_000, 3));
    let first = Node::start(&scene, "first", &["--circuit-kib", "0"]);
    let second = Node::start(
        &scene,
        "second",
        &["--circuit-kib", "0", "--bootstrap", &first.address],
    );
    let (mut sender, code) = send(&scene, &at(&[&first, &second], &["--hide-ip"]));
    reserved(&[&first, &second]);
    // Slow enough that much is left when the relay is killed, however busy the machine is.
    let slowly = at(&[&first, &second], &["--no-direct", "--limit-down", "10M"]);
    let receiver = Process::start(scene.get(&code, "got", &slowly));
    while sender.await_event("receiver_progress")["done"].as_u64() < Some(5_000_000) {}
    let busy = first.counter("relay_circuits") > 0;
    let (used, _left) = if busy {
        (first, second)
    } else {
        (second, first)
    };
    used.kill();
    let got = receiver.wait().expect(0);
    assert_eq!(
        paths(&got, "connection_lost"),
        ["relayed"],
        "{}",
        got.stderr
    );
    assert_eq!(paths(&got, "connected"), ["relayed", "relayed"]);
    assert!(std::fs::read(scene.path("got/sent")).unwrap() == noise(60_000_000, 3));
}

#[test]
fn who_hides_tells_nothing_that_two_runs_have_in_common() {
    let scene = Scene::new();
    scene.file("sent", b"some bytes");
    let node = Node::start(&scene, "node", &[]);
    let (mut sender, code) = send(&scene, &at(&[&node], &["--hide-ip"]));
    reserved(&[&node]);
    let mut joined = Vec::new();
    for options in [&["--hide-ip"][..], &["--hide-ip"], &[]] {
        let options = [options, &["--on-conflict", "overwrite"]].concat();
        let got = run(scene.get(&code, "got", &at(&[&node], &options))).expect(0);
        assert_eq!(got.event("offer")["author"], "");
        let receiver = sender.await_event("receiver_joined");
        joined.push((receiver["peer"].clone(), receiver["name"].clone()));
    }
    assert_ne!(joined[0].0, joined[1].0, "they are two to the sender");
    assert!(joined[..2].iter().all(|(_, name)| name == ""));
    assert_ne!(joined[2].1, "", "who does not hide says its name");
}

/// The sharer chooses its relays, and may run one to see the address of a receiver that hides it.
#[test]
fn who_hides_is_asked_about_relays_that_only_the_other_side_has_named() {
    let scene = Scene::new();
    scene.file("sent", b"some bytes");
    let theirs = Node::start(&scene, "theirs", &[]);
    let own = ["--bootstrap", &theirs.address, "--reservations", "0"];
    let own = Node::start(&scene, "own", &own);
    let (_sender, code) = send(&scene, &at(&[&theirs], &["--hide-ip"]));
    reserved(&[&theirs]);
    let get = |to: &str, more: &[&str]| scene.get(&code, to, &at(&[&own], more));
    let unasked = run(get("unasked", &["--hide-ip"])).expect(2);
    let relay = theirs.address.rsplit('/').next().unwrap();
    let named = unasked.event("relays_in_question")["relays"][0].clone();
    assert_eq!(named["peer"], relay, "{named}");
    assert!(paths(&unasked, "connected").is_empty(), "{unasked:?}");
    for (to, more) in [
        ("any", ["--any-relay"].as_slice()),
        ("named", &["--relay", &theirs.address]),
    ] {
        run(get(to, &[&["--hide-ip"], more].concat())).expect(0);
    }
    for (answer, exit) in [("n", 4), ("y", 0)] {
        let mut get = scene.handover(answer, &["get", &code, "--yes", "--to", answer]);
        get.args(at(&[&own], &["--hide-ip"]));
        let mut get = Terminal::start(get);
        get.sees(&theirs.address);
        get.sees("use them? [y/N]");
        get.types(answer);
        let (ended, screen) = get.ends();
        assert_eq!(ended, Some(exit), "{screen}");
    }
}

/// The receiver's code contains a relayed address only; over that connection the sharer tells its other addresses.
#[test]
fn a_transfer_that_begins_at_a_relay_goes_on_without_it() {
    let scene = Scene::new();
    let sent = scene.file("sent", &noise(200_000_000, 4));
    let node = Node::start(&scene, "node", &["--circuit-kib", "0"]);
    let options = at(&[&node], &["--ticket", "--relay", &node.address]);
    let mut command = scene.handover("sender", &["send", "--json"]);
    command.args(&options).arg(&sent);
    let mut sender = Sender::start_unopened(command);
    let code = loop {
        let open = sender.await_event("share_open");
        let code = open["code"].as_str().unwrap().to_string();
        if let Some(relayed) = only_relayed(&code) {
            break relayed;
        }
        reserved(&[&node]);
    };
    let got = run(scene.get(&code, "got", &["--no-mdns", "--no-dht"])).expect(0);
    assert_eq!(paths(&got, "connected")[0], "relayed");
    assert_eq!(paths(&got, "path_changed"), ["loopback"]);
    let left = sender.await_event("receiver_left");
    let twice = left["sent"].as_u64().unwrap() - 200_000_000;
    eprintln!("{twice} bytes were sent twice");
    assert!(twice <= 12 << 20, "more than a window");
    assert!(std::fs::read(scene.path("got/sent")).unwrap() == noise(200_000_000, 4));
}

/// The ticket reduced to its relayed addresses; `None` if it has none.
fn only_relayed(code: &str) -> Option<String> {
    let json = data_encoding::BASE64URL_NOPAD
        .decode(code.as_bytes())
        .unwrap();
    let mut ticket: Value = serde_json::from_slice(&json).unwrap();
    let addresses = ticket["addresses"].as_array_mut().unwrap();
    addresses.retain(|address| address.as_str().unwrap().contains("/p2p-circuit"));
    let any = !addresses.is_empty();
    any.then(|| data_encoding::BASE64URL_NOPAD.encode(ticket.to_string().as_bytes()))
}

/// Row 9.
#[test]
fn wrong_words_burn_the_code_however_many_try_at_once() {
    let scene = Scene::new();
    scene.file("sent", b"bytes");
    let node = Node::start(&scene, "node", &[]);
    let (mut sender, code) = send(&scene, &at(&[&node], &[]));
    let (number, words) = code.split_once('-').unwrap();
    let wrong = ["amber-otter", "otter-amber"]
        .into_iter()
        .find(|other| *other != words)
        .unwrap();
    let wrong = format!("{number}-{wrong}");
    let mut tries: Vec<_> = (0..8)
        .map(|to| {
            let to = to.to_string();
            Process::start(scene.get(&wrong, &to, &at(&[&node], &["--wait", "30"])))
        })
        .collect();
    // Receivers that come too late find a dead code, and would keep searching.
    eventually("as many refusals as there may be", || {
        let ended = tries.iter_mut().map(Process::has_ended);
        ended.filter(|ended| *ended).count() >= 5
    });
    sender.await_event("code_burnt");
    for one in &mut tries {
        if !one.has_ended() {
            one.signal(Signal::INT);
        }
    }
    let outcomes: Vec<_> = tries.into_iter().map(Process::wait).collect();
    let refused = outcomes.iter().filter(|outcome| {
        let ended = outcome.event("download_ended");
        let message = ended["message"].as_str();
        message.is_some_and(|message| message.contains("words"))
    });
    let messages: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.event("download_ended"))
        .collect();
    assert_eq!(refused.count(), 5, "{messages:#?}");
    assert!(outcomes.iter().all(|outcome| outcome.exit != Some(0)));
    run(scene.get(&code, "right", &at(&[&node], &["--wait", "3"]))).expect(3);
}
