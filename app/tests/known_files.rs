//! Data already on this device is not fetched again: whole files anywhere, and the common parts of an older version.
//! The number of bytes transferred is asserted, and printed.

#![allow(clippy::print_stderr)]

mod support;

use std::fs;

use handover_core::limits::LEAF;
use serde_json::Value;
use support::{Outcome, Scene, noise, run, tree};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Creates `files` files to share, leaving existing ones unchanged. Returns their total size.
fn share(scene: &Scene, files: usize) -> u64 {
    let mut bytes = 0;
    for at in 0..files {
        let len = 40 * KIB + at * 999;
        let seed = u32::try_from(at).unwrap();
        let name = format!("sent/{}/{at}", at % 7);
        if !scene.path(&name).exists() {
            scene.file(&name, &noise(len, seed));
        }
        bytes += len as u64;
    }
    bytes
}

/// Transfers the content of `sent` into a folder. Returns the receiver's outcome, and the number of bytes transferred.
fn hand_over(scene: &Scene, to: &str, options: &[&str]) -> (Outcome, u64) {
    let mut sender = scene.send(&[&scene.path("sent")], &["--once"]);
    // The same receiver each time, whatever its target folder.
    let mut get = scene.handover("receiver", &["get", "--yes", "--json"]);
    get.env("HANDOVER_CODE", &sender.code)
        .arg("--to")
        .arg(scene.path(to))
        .args(options);
    let got = run(get).expect(0);
    let left = sender.await_event("receiver_left");
    assert_eq!(left["outcome"], "completed");
    sender.wait();
    (got, left["sent"].as_u64().unwrap())
}

/// Compares paths, and the content and times of files. Folders that existed before keep their own times.
fn assert_same_files(scene: &Scene, to: &str) {
    let (sent, there) = (scene.path("sent"), scene.path(to).join("sent"));
    let names = tree::names(&sent);
    assert_eq!(tree::names(&there), names, "{to}");
    for name in names {
        let (from, at) = (sent.join(&name), there.join(&name));
        if from.is_file() {
            assert!(fs::read(&at).unwrap() == fs::read(&from).unwrap(), "{name}");
            let modified = |path| fs::metadata(path).unwrap().modified().unwrap();
            assert_eq!(modified(&at), modified(&from), "{name} in {to}");
        }
    }
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap()
}

#[test]
fn what_is_known_is_not_fetched_again() {
    let scene = Scene::new();
    let before = share(&scene, 90);
    let (_, sent) = hand_over(&scene, "first", &[]);
    assert_eq!(sent, before);

    let all = share(&scene, 100);
    let fresh = all - before;
    let (got, sent) = hand_over(&scene, "elsewhere", &[]);
    eprintln!("into another folder: {sent} of {all} bytes were fetched");
    // At most one leaf of each of the other files was fetched: the sharer has to prove that it has the file.
    let shown = |sent: u64, files: u64| (files..=files * u64::from(LEAF)).contains(&sent);
    assert!(shown(sent - fresh, 90), "{sent} bytes");
    let ended = got.event("download_ended");
    assert_eq!(number(&ended, "spared"), all - sent);
    assert_eq!(number(&ended, "untouched"), 0);

    let (got, sent) = hand_over(&scene, "first", &["--on-conflict", "rename"]);
    eprintln!("into the same folder: {sent} of {all} bytes were fetched");
    assert!(
        shown(sent, 10),
        "what was new is known from elsewhere: {sent}"
    );
    assert_eq!(number(&got.event("download_ended"), "untouched"), 90);

    let (got, sent) = hand_over(&scene, "first", &["--on-conflict", "rename"]);
    assert_eq!(sent, 0);
    let ended = got.event("download_ended");
    assert_eq!(
        (number(&ended, "untouched"), number(&ended, "files")),
        (100, 100)
    );
    for to in ["first", "elsewhere"] {
        assert_same_files(&scene, to);
    }
}

#[test]
fn without_history_nothing_is_noted_and_what_stands_there_is_seen_all_the_same() {
    let scene = Scene::new();
    let all = share(&scene, 20);
    let (_, sent) = hand_over(&scene, "first", &["--no-history"]);
    assert_eq!(sent, all);
    let (_, sent) = hand_over(&scene, "elsewhere", &["--no-history"]);
    assert_eq!(sent, all);
    assert!(!scene.path("receiver/known.redb").exists());
    let (_, sent) = hand_over(
        &scene,
        "first",
        &["--no-history", "--on-conflict", "rename"],
    );
    assert_eq!(sent, 0);
}

/// The record of a file that has changed since is of no use, and does no harm.
#[test]
fn a_known_file_that_has_changed_is_fetched() {
    let scene = Scene::new();
    let all = share(&scene, 3);
    hand_over(&scene, "first", &[]);
    for path in ["first/sent/0/0", "first/sent/1/1"] {
        let path = scene.path(path);
        let mut bytes = fs::read(&path).unwrap();
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        bytes[7] ^= 1;
        fs::write(&path, bytes).unwrap();
        // One of them keeps its modification time.
        if path.ends_with("1") {
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(times)
                .unwrap();
        }
    }
    let known = (40 * KIB + 2 * 999) as u64;
    let (_, sent) = hand_over(&scene, "elsewhere", &[]);
    let shown = sent - (all - known);
    assert!((1..=u64::from(LEAF)).contains(&shown), "{shown}");
    let sent = tree::read(&scene.path("sent"));
    assert_eq!(tree::read(&scene.path("elsewhere/sent")), sent);
}

#[test]
fn of_a_new_version_only_what_has_changed_is_fetched() {
    let scene = Scene::new();
    let old = noise(24 * MIB, 1);
    scene.file("sent/large", &old);
    hand_over(&scene, "here", &[]);

    let mut new = old.clone();
    for at in [3 * MIB, 9 * MIB + 77] {
        new[at..at + 2000].fill(7);
    }
    let put_in = 12 * MIB + 5;
    new.splice(put_in..put_in, noise(5000, 2));
    scene.file("sent/large", &new);
    let (got, sent) = hand_over(&scene, "here", &["--on-conflict", "overwrite"]);
    eprintln!("of {} bytes {sent} were fetched", new.len());
    assert!(sent < MIB as u64, "{sent} bytes were fetched");
    let ended = got.event("download_ended");
    assert_eq!(number(&ended, "spared"), new.len() as u64 - sent);
    assert!(fs::read(scene.path("here/sent/large")).unwrap() == new);

    // Both versions are kept, if so requested.
    scene.file("sent/large", &old);
    let (_, sent) = hand_over(&scene, "here", &["--on-conflict", "rename", "--no-history"]);
    assert!(sent < MIB as u64, "{sent} bytes were fetched");
    assert!(fs::read(scene.path("here/sent/large")).unwrap() == new);
    assert!(fs::read(scene.path("here/sent/large (1)")).unwrap() == old);
}

#[test]
fn equal_files_of_a_share_go_over_once() {
    let scene = Scene::new();
    let same = noise(3 * MIB, 1);
    for name in ["a", "b", "sub/c", "sub/d"] {
        scene.file(&format!("sent/{name}"), &same);
    }
    scene.file("sent/other", &noise(3 * MIB, 2));
    let (got, sent) = hand_over(&scene, "here", &["--no-history"]);
    assert_eq!(sent, 6 * MIB as u64);
    let spared = number(&got.event("download_ended"), "spared");
    assert_eq!(spared, 9 * MIB as u64);
    let sent = tree::read(&scene.path("sent"));
    assert_eq!(tree::read(&scene.path("here/sent")), sent);
}
