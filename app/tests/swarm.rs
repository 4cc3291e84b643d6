//! Receivers that serve each other, as processes on loopback.

mod support;

use std::fs;
use std::path::Path;

use support::liar::Liar;
use support::{Process, Scene, Sender, eventually, noise, run};

const MIB: usize = 1024 * 1024;

fn share(scene: &Scene, mib: usize) {
    scene.file("sent/large", &noise(mib * MIB + 1, 1));
    for n in 0..5 {
        scene.file(&format!("sent/{n}"), &noise(200_000, 2 + n));
    }
}

fn assert_whole(scene: &Scene, to: &str) {
    for entry in fs::read_dir(scene.path("sent")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        let here = scene.path(to).join("sent").join(name);
        assert!(
            fs::read(&here).unwrap() == fs::read(&path).unwrap(),
            "{} is wrong",
            here.display()
        );
    }
}

/// Starts a receiver that seeds afterwards; its events are read as they arrive.
fn seeder(scene: &Scene, code: &str, to: &str, options: &[&str]) -> Sender {
    let options = [options, &["--seed-for", "10m"]].concat();
    Sender::start_unopened(scene.get(code, to, &options))
}

#[test]
fn a_sender_that_is_killed_once_one_receiver_has_all_of_it_is_not_missed() {
    let scene = Scene::new();
    share(&scene, 64);
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let mut first = seeder(&scene, &sender.code, "first", &[]);
    let seeding = first.await_event("seeding");
    assert_eq!(seeding["files"], 6);
    // The others have been admitted, and know of the first, before the sender is killed.
    let code = sender.code.clone();
    let mut others: Vec<_> = ["second", "third"]
        .iter()
        .map(|to| seeder(&scene, &code, to, &["--wait", "20"]))
        .collect();
    for other in &mut others {
        other.await_event("source_joined");
    }
    sender.kill();
    for (mut other, to) in others.into_iter().zip(["second", "third"]) {
        other.await_event("seeding");
        assert_whole(&scene, to);
    }
    assert_whole(&scene, "first");
}

#[test]
fn one_of_three_sources_that_serves_rotten_leaves_is_named_and_not_missed() {
    let scene = Scene::new();
    share(&scene, 24);
    // Slow enough that each source has a part to deliver.
    let slowly = ["--limit-up", "3M"];
    let sender = scene.send(&[&scene.path("sent")], &slowly);
    let liar = Liar::start(&scene, &sender.code, "liar");
    let mut honest = seeder(&scene, &sender.code, "honest", &slowly);
    honest.await_event("seeding");
    let got = run(scene.get(&sender.code, "third", &[])).expect(0);
    assert_whole(&scene, "third");
    let liar = liar.peer.to_string();
    let events = got.events();
    let of = |name: &str| {
        events
            .iter()
            .filter(move |event| event["event"] == name)
            .collect::<Vec<_>>()
    };
    let blamed = of("peer_blamed");
    let named = blamed.iter().all(|event| event["peer"] == liar.as_str());
    assert!(blamed.len() == 1 && named, "{blamed:?}");
    let sources = of("source_joined");
    assert_eq!(sources.len(), 2, "{sources:?}");
    for delivered in of("delivered") {
        let rotten = delivered["peer"] == liar.as_str();
        assert_eq!(delivered["bad"] != 0, rotten, "{delivered}");
    }
    // It is recorded for later runs.
    let peers = run(scene.handover("receiver of third", &["peers", "--json"])).expect(0);
    let peers = peers.events();
    let bad = peers.iter().filter(|peer| peer["bad"] != 0);
    let bad: Vec<_> = bad.map(|peer| &peer["peer"]).collect();
    assert_eq!(bad, [liar.as_str()], "{peers:?}");
}

#[test]
fn who_is_told_not_to_serves_nobody() {
    let scene = Scene::new();
    share(&scene, 6);
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let first = run(scene.get(&sender.code, "first", &["--no-seed"])).expect(0);
    let second = run(scene.get(&sender.code, "second", &[])).expect(0);
    for got in [first, second] {
        let events = got.events();
        let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        assert_eq!((of("source_joined"), of("delivered")), (0, 1));
    }
    assert_whole(&scene, "second");
}

#[test]
fn a_receiver_that_serves_ends_well_when_it_is_interrupted() {
    let scene = Scene::new();
    share(&scene, 6);
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let here = scene.path("here");
    let get = Process::start(scene.get(&sender.code, "here", &["--seed-for", "1h"]));
    let is_whole = |here: &Path| {
        let staged = fs::read_dir(here).is_ok_and(|mut all| {
            all.any(|entry| {
                let name = entry.unwrap().file_name();
                name.to_string_lossy().starts_with(".handover-")
            })
        });
        here.join("sent/large").exists() && here.join("sent/4").exists() && !staged
    };
    eventually("all of it", || is_whole(&here));
    std::thread::sleep(std::time::Duration::from_millis(300));
    get.signal(rustix::process::Signal::INT);
    let got = get.wait().expect(0);
    assert_eq!(got.event("download_ended")["outcome"], "completed");
    assert_whole(&scene, "here");
}
