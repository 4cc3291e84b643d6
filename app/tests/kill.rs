//! Whatever is killed, and whenever: no file under a final name is incomplete or wrong.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::{Process, Scene, eventually, noise};

const MIB: usize = 1024 * 1024;

/// A large file and some smaller ones: 200 MiB in all.
fn share(scene: &Scene) {
    scene.file("sent/large", &noise(160 * MIB + 1, 1));
    for n in 0..10 {
        scene.file(&format!("sent/{n}"), &noise(4 * MIB, 2 + n));
    }
}

/// Checks that every file under a final name equals the sender's. Returns the number of files.
#[track_caller]
fn check(here: &Path, sent: &Path) -> usize {
    if !here.join("sent").exists() {
        return 0;
    }
    let mut whole = 0;
    for entry in fs::read_dir(here.join("sent")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        assert!(
            fs::read(&path).unwrap() == fs::read(sent.join(name)).unwrap(),
            "{} is wrong",
            path.display()
        );
        whole += 1;
    }
    whole
}

fn staged(here: &Path) -> bool {
    here.exists()
        && tree_top(here)
            .iter()
            .any(|name| name.starts_with(".handover-"))
}

fn tree_top(here: &Path) -> Vec<String> {
    let names = fs::read_dir(here)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// A random duration below `most` milliseconds.
fn moment(most: u64) -> Duration {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    Duration::from_millis(u64::from(nanos / 1000) % most)
}

#[test]
fn a_killed_receiver_leaves_nothing_half() {
    let scene = Scene::new();
    share(&scene);
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let here = scene.path("here");
    // The whole share takes five seconds at this rate: data kept from one run does not let the next one end before it
    // is killed.
    let slowly = ["--on-conflict", "overwrite", "--limit-down", "40M"];
    for _ in 0..4 {
        let get = Process::start(scene.get(&sender.code, "here", &slowly));
        std::thread::sleep(moment(1200));
        assert_eq!(get.kill().exit, None, "it was too quick to be killed");
        check(&here, &scene.path("sent"));
    }
    // After all that it still works, and removes what the killed runs have left.
    Process::start(scene.get(&sender.code, "here", &["--on-conflict", "overwrite"]))
        .wait()
        .expect(0);
    assert_eq!(check(&here, &scene.path("sent")), 11);
    assert!(!staged(&here), "{:?}", tree_top(&here));
}

#[test]
fn a_killed_sender_leaves_nothing_half() {
    let scene = Scene::new();
    share(&scene);
    for n in 0..3 {
        let here = format!("here {n}");
        let sender = scene.send(&[&scene.path("sent")], &[]);
        let get = Process::start(scene.get(&sender.code, &here, &["--wait", "2"]));
        eventually("the transfer", || staged(&scene.path(&here)));
        std::thread::sleep(moment(700));
        sender.kill();
        let got = get.wait();
        let whole = check(&scene.path(&here), &scene.path("sent"));
        match got.exit {
            // It was complete already.
            Some(0) => assert_eq!(whole, 11),
            Some(3) => assert!(whole < 11),
            other => panic!("{other:?}: {}", got.stderr),
        }
    }
}
