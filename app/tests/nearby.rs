//! Two computers on one local network, without internet or any other host: two network namespaces and a cable.

mod support;

use std::fs;
use std::process::ExitCode;

use handover_test_needs::{Need, Tests, tests};
use support::places::Places;
use support::{Outcome, Scene, Sender};

fn main() -> ExitCode {
    let tests = tests![
        a_short_code_is_enough,
        a_code_in_its_old_form_works,
        wrong_words_are_refused_and_then_the_code_is_dead,
        a_sharer_that_is_killed_knows_in_its_next_run_how_often_somebody_guessed,
        a_sharer_that_has_left_is_not_missed_by_who_was_killed_nor_by_who_comes_late,
    ];
    Tests::default().needing(&[Need::Namespaces], tests).run()
}

/// The computers `a` and `b`.
fn cable(mark: &str) -> Places {
    let places = Places::new(mark, &["a", "b"]);
    places.cable([("a", "cable"), ("b", "cable")]);
    for (place, address) in [("a", "10.77.0.1/24"), ("b", "10.77.0.2/24")] {
        places.address(place, "cable", address);
        places.ip(place, "route add 224.0.0.0/4 dev cable");
    }
    places
}

/// A sharer at `a`, and its short code.
fn share(scene: &Scene, places: &Places, path: &str) -> (Sender, String) {
    let mut send = scene.bare(&["send", path, "--json", "--data-dir"]);
    send.arg(scene.path("sharer"));
    let mut sharer = Sender::start_unopened(places.at("a", &send));
    let code = sharer.await_code("short");
    (sharer, code)
}

/// A receiver at `b`.
fn get(scene: &Scene, places: &Places, code: &str, options: &[&str]) -> Outcome {
    let mut get = scene.bare(&["get", code, "--yes", "--to", "in", "--data-dir"]);
    get.arg(scene.path("receiver")).args(options);
    support::run(places.at("b", &get))
}

fn a_short_code_is_enough() {
    let places = cable("s");
    let scene = Scene::new();
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    scene.file("mods/sky.pak", &bytes);
    scene.file("mods/readme", b"hello");
    let (_sharer, code) = share(&scene, &places, "mods");
    let words = get(&scene, &places, &code, &[]).expect(0).stderr;
    assert!(words.contains("local network"), "{words}");
    let arrived = fs::read(scene.path("in/mods/sky.pak")).unwrap();
    assert!(arrived == bytes);
    assert_eq!(fs::read(scene.path("in/mods/readme")).unwrap(), b"hello");
}

/// A legacy code contains one address, used for TCP and for QUIC.
fn a_code_in_its_old_form_works() {
    let places = cable("o");
    let scene = Scene::new();
    scene.file("file", b"bytes");
    let alone = ["--no-dht", "--no-mdns"];
    let mut send = scene.bare(&["send", "file", "--legacy", "--json", "--data-dir"]);
    send.arg(scene.path("sharer")).args(alone);
    let mut sharer = Sender::start_unopened(places.at("a", &send));
    let code = sharer.await_code("legacy");
    let label = code.split(':').next().unwrap();
    assert_eq!(label.len(), "GAZ3-VTDS-YQP7".len(), "{code}");
    for transport in ["tcp", "quic"] {
        let options = [&alone[..], &["--transport", transport]].concat();
        get(&scene, &places, &code, &options).expect(0);
        assert_eq!(fs::read(scene.path("in/file")).unwrap(), b"bytes");
        fs::remove_file(scene.path("in/file")).unwrap();
    }
}

/// Row 9.
fn wrong_words_are_refused_and_then_the_code_is_dead() {
    let places = cable("w");
    let scene = Scene::new();
    scene.file("file", b"bytes");
    let (_sharer, code) = share(&scene, &places, "file");
    let guess = other_words(&code);
    for _ in 0..5 {
        let said = get(&scene, &places, &guess, &[]).expect(7).stderr;
        assert!(said.contains("words of this code"), "{said}");
    }
    let got = get(&scene, &places, &code, &["--wait", "3"]);
    assert_ne!(got.exit, Some(0), "a dead code lets in: {}", got.stderr);
    assert!(!scene.path("in/file").exists());
}

/// Row 9, over several runs: guesses were once recorded only after they were answered, so a killed sharer forgot some.
fn a_sharer_that_is_killed_knows_in_its_next_run_how_often_somebody_guessed() {
    let places = cable("k");
    let scene = Scene::new();
    scene.file("file", b"bytes");
    let (sharer, code) = share(&scene, &places, "file");
    let guess = other_words(&code);
    for _ in 0..3 {
        get(&scene, &places, &guess, &[]).expect(7);
    }
    sharer.kill();
    let (sharer, again) = share(&scene, &places, "file");
    assert_eq!(code, again);
    for _ in 0..2 {
        // The receiver has used up its own attempts at this code.
        fs::remove_dir_all(scene.path("receiver")).unwrap();
        get(&scene, &places, &guess, &[]).expect(7);
    }
    let got = get(&scene, &places, &code, &["--wait", "3"]);
    assert_ne!(got.exit, Some(0), "a dead code lets in: {}", got.stderr);
    // The next run has another code. It once had none, without saying so.
    sharer.kill();
    let (_sharer, other) = share(&scene, &places, "file");
    assert_ne!(other, code);
    get(&scene, &places, &other, &[]).expect(0);
}

/// The same number with other words.
fn other_words(code: &str) -> String {
    let (number, words) = code.split_once('-').unwrap();
    let mut guesses = ["amber-otter", "otter-amber"].into_iter();
    let guess = guesses.find(|guess| *guess != words).unwrap();
    format!("{number}-{guess}")
}

/// A complete receiver serves; the sharer and another receiver are killed. The killed receiver resumes, and a receiver
/// that comes only now, with the ticket, gets everything too.
fn a_sharer_that_has_left_is_not_missed_by_who_was_killed_nor_by_who_comes_late() {
    let places = cable("l");
    let scene = Scene::new();
    let bytes = support::noise(24 << 20, 5);
    scene.file("mods/sky.pak", &bytes);
    scene.file("mods/readme", b"hello");
    let at = |place: &str, who: &str, arguments: &[&str]| {
        let data = scene.path(who);
        let data = ["--json", "--data-dir", data.to_str().unwrap()];
        places.at(place, &scene.bare(&[arguments, &data].concat()))
    };
    let mut sharer = Sender::start_unopened(at("a", "sharer", &["send", "mods"]));
    let (ticket, short) = loop {
        let open = sharer.await_event("share_open");
        if let (Some(ticket), Some(short)) = (open["code"].as_str(), open["short"].as_str()) {
            break (ticket.to_owned(), short.to_owned());
        }
    };
    let get = |to: &str, options: &[&str]| {
        let code = if to == "killed" { &short } else { &ticket };
        let arguments = [&["get", code, "--yes", "--to", to], options].concat();
        at(if to == "first" { "b" } else { "a" }, to, &arguments)
    };
    let mut first = Sender::start_unopened(get("first", &["--seed-for", "10m"]));
    first.await_event("seeding");
    let mut killed = Sender::start_unopened(get("killed", &["--limit-down", "3M"]));
    let done = |progress: serde_json::Value| progress["done"].as_u64().unwrap();
    while done(killed.await_event("progress")) < 9 << 20 {}
    killed.kill();
    sharer.kill();
    let again = support::run(at("a", "killed", &["resume", "1"])).expect(0);
    let late = support::run(get("late", &[])).expect(0);
    for (got, to) in [(&again, "killed"), (&late, "late")] {
        assert_eq!(got.event("deputy")["path"], "lan", "{to}");
        assert!(fs::read(scene.path(to).join("mods/sky.pak")).unwrap() == bytes);
    }
    let fetched = again.event("delivered")["bytes"].as_u64().unwrap();
    assert!(fetched < 20 << 20, "{fetched} bytes: that is a fresh start");
}
