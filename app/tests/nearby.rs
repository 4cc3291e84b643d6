//! Two computers on one local network, with no internet and nothing else between them: two network namespaces and a
//! cable.

mod support;

use std::fs;
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

use handover_test_needs::{Need, Tests, tests};
use support::netns::{self, ip};
use support::{Scene, Sender};

fn main() -> ExitCode {
    let tests = tests![
        a_short_code_is_enough,
        wrong_words_are_refused_and_then_the_code_is_dead,
        a_sharer_that_has_left_is_not_missed_by_who_was_killed_nor_by_who_comes_late,
    ];
    Tests::default().needing(&[Need::Namespaces], tests).run()
}

/// Two namespaces with a cable between them, which go when this does.
struct Cable {
    names: [String; 2],
}

impl Cable {
    fn new(mark: &str) -> Self {
        let own = std::process::id();
        let names = ["a", "b"].map(|end| format!("ho{own}{mark}{end}"));
        let cable = Self { names };
        let [a, b] = &cable.names;
        for name in [a, b] {
            ip(&format!("netns add {name}"));
        }
        ip(&format!(
            "-n {a} link add cable type veth peer name cable netns {b}"
        ));
        for (name, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            ip(&format!("-n {name} addr add {address} dev cable"));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set cable up"));
            ip(&format!("-n {name} route add 224.0.0.0/4 dev cable"));
        }
        cable
    }

    /// A command at one end.
    fn at(&self, end: usize, command: &Command) -> Command {
        netns::inside(&self.names[end], command)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| netns::delete(name));
    }
}

/// A sharer that runs until it is dropped, and its short code.
struct Sharer {
    process: std::process::Child,
    code: String,
}

impl Drop for Sharer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn share(scene: &Scene, cable: &Cable, path: &str) -> Sharer {
    let data = scene.path("sharer");
    let data = data.to_str().unwrap();
    let said = scene.path("said");
    let mut send = cable.at(
        0,
        &scene.bare(&["send", path, "--json", "--data-dir", data]),
    );
    send.stdout(fs::File::create(&said).unwrap());
    send.stderr(std::process::Stdio::null());
    let process = send.spawn().expect("ip runs");
    let mut sharer = Sharer {
        process,
        code: String::new(),
    };
    let begun = Instant::now();
    while sharer.code.is_empty() {
        assert!(begun.elapsed() < support::PATIENCE, "no short code");
        std::thread::sleep(Duration::from_millis(20));
        let text = fs::read_to_string(&said).unwrap();
        let mut open = text.lines().filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["short"].as_str().map(str::to_owned)
        });
        sharer.code = open.next_back().unwrap_or_default();
    }
    sharer
}

fn get(scene: &Scene, cable: &Cable, code: &str) -> Output {
    let data = scene.path("receiver");
    let arguments = [
        "get",
        code,
        "--yes",
        "--to",
        "in",
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let mut get = cable.at(1, &scene.bare(&arguments));
    get.output().expect("ip runs")
}

fn a_short_code_is_enough() {
    let cable = Cable::new("s");
    let scene = Scene::new();
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    scene.file("mods/sky.pak", &bytes);
    scene.file("mods/readme", b"hello");
    let sharer = share(&scene, &cable, "mods");
    let got = get(&scene, &cable, &sharer.code);
    let words = String::from_utf8_lossy(&got.stderr).into_owned();
    assert!(got.status.success(), "{words}");
    assert!(words.contains("local network"), "{words}");
    let arrived = fs::read(scene.path("in/mods/sky.pak")).unwrap();
    assert!(arrived == bytes);
    assert_eq!(fs::read(scene.path("in/mods/readme")).unwrap(), b"hello");
}

/// Row 9.
fn wrong_words_are_refused_and_then_the_code_is_dead() {
    let cable = Cable::new("w");
    let scene = Scene::new();
    scene.file("file", b"bytes");
    let sharer = share(&scene, &cable, "file");
    let (number, words) = sharer.code.split_once('-').unwrap();
    let guess = ["amber-otter", "otter-amber"]
        .into_iter()
        .find(|guess| *guess != words);
    let guess = format!("{number}-{}", guess.unwrap());
    for _ in 0..5 {
        let got = get(&scene, &cable, &guess);
        let said = String::from_utf8_lossy(&got.stderr).into_owned();
        assert_eq!(got.status.code(), Some(7), "{said}");
        assert!(said.contains("words of this code"), "{said}");
    }
    let arguments = ["--wait", "3"];
    let data = scene.path("receiver");
    let mut all = vec!["get", &sharer.code, "--yes", "--to", "in", "--data-dir"];
    all.push(data.to_str().unwrap());
    all.extend(arguments);
    let got = cable.at(1, &scene.bare(&all)).output().unwrap();
    let said = String::from_utf8_lossy(&got.stderr).into_owned();
    assert!(!got.status.success(), "a dead code lets in: {said}");
    assert!(!scene.path("in/file").exists());
}

/// A receiver that has all of it serves; the sharer and another receiver are killed; what that one has begun goes on, and
/// who has the ticket and comes only now gets it too.
fn a_sharer_that_has_left_is_not_missed_by_who_was_killed_nor_by_who_comes_late() {
    let cable = Cable::new("l");
    let scene = Scene::new();
    let bytes = support::noise(24 << 20, 5);
    scene.file("mods/sky.pak", &bytes);
    scene.file("mods/readme", b"hello");
    let at = |end: usize, who: &str, arguments: &[&str]| {
        let data = scene.path(who);
        let data = ["--json", "--data-dir", data.to_str().unwrap()];
        cable.at(end, &scene.bare(&[arguments, &data].concat()))
    };
    let mut sharer = Sender::start_unopened(at(0, "sharer", &["send", "mods"]));
    let (ticket, short) = loop {
        let open = sharer.await_event("share_open");
        if let (Some(ticket), Some(short)) = (open["code"].as_str(), open["short"].as_str()) {
            break (ticket.to_owned(), short.to_owned());
        }
    };
    let get = |to: &str, options: &[&str]| {
        let code = if to == "killed" { &short } else { &ticket };
        let arguments = [&["get", code, "--yes", "--to", to], options].concat();
        at(usize::from(to == "first"), to, &arguments)
    };
    let mut first = Sender::start_unopened(get("first", &["--seed-for", "10m"]));
    first.await_event("seeding");
    let mut killed = Sender::start_unopened(get("killed", &["--limit-down", "3M"]));
    let done = |progress: serde_json::Value| progress["done"].as_u64().unwrap();
    while done(killed.await_event("progress")) < 9 << 20 {}
    killed.kill();
    sharer.kill();
    let again = support::run(at(0, "killed", &["resume", "1"])).expect(0);
    let late = support::run(get("late", &[])).expect(0);
    for (got, to) in [(&again, "killed"), (&late, "late")] {
        assert_eq!(got.event("deputy")["path"], "lan", "{to}");
        assert!(fs::read(scene.path(to).join("mods/sky.pak")).unwrap() == bytes);
    }
    let fetched = again.event("delivered")["bytes"].as_u64().unwrap();
    assert!(fetched < 20 << 20, "{fetched} bytes: that is a fresh start");
}
