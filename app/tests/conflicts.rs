//! Nothing that exists is replaced silently.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use support::{Outcome, Scene, Sender, run, tree};

/// `old` and `same` exist at the receiver already, `new` does not.
fn scene() -> (Scene, Sender) {
    let scene = Scene::new();
    for name in ["old", "same", "new"] {
        scene.file(&format!("sent/{name}"), b"from the sender");
    }
    scene.file("here/sent/old", b"precious");
    scene.file("here/sent/same", b"from the sender");
    let sender = scene.send(&[&scene.path("sent")], &[]);
    (scene, sender)
}

fn get(scene: &Scene, sender: &Sender, on_conflict: &str) -> Outcome {
    run(scene.get(&sender.code, "here", &["--on-conflict", on_conflict]))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn skip_leaves_what_is_there() {
    let (scene, sender) = scene();
    let got = get(&scene, &sender, "skip").expect(0);
    assert_eq!(
        tree::names(&scene.path("here")),
        ["sent", "sent/new", "sent/old", "sent/same"]
    );
    assert_eq!(text(&scene.path("here/sent/old")), "precious");
    assert_eq!(got.event("download_ended")["skipped"], 2);
}

#[test]
fn rename_keeps_both() {
    let (scene, sender) = scene();
    get(&scene, &sender, "rename").expect(0);
    assert_eq!(text(&scene.path("here/sent/old")), "precious");
    assert_eq!(text(&scene.path("here/sent/old (1)")), "from the sender");
    get(&scene, &sender, "rename").expect(0);
    assert_eq!(text(&scene.path("here/sent/old (2)")), "from the sender");
}

#[test]
fn overwrite_replaces() {
    let (scene, sender) = scene();
    get(&scene, &sender, "overwrite").expect(0);
    assert_eq!(
        tree::names(&scene.path("here")),
        ["sent", "sent/new", "sent/old", "sent/same"]
    );
    assert_eq!(text(&scene.path("here/sent/old")), "from the sender");
}

#[test]
fn where_nobody_can_be_asked_nothing_happens() {
    let (scene, sender) = scene();
    let got = get(&scene, &sender, "ask").expect(2);
    assert!(got.stderr.contains("--on-conflict"), "{}", got.stderr);
    assert_eq!(
        tree::names(&scene.path("here")),
        ["sent", "sent/old", "sent/same"]
    );
    assert_eq!(text(&scene.path("here/sent/old")), "precious");
    // Files that are not selected cause no conflict.
    run(scene.get(&sender.code, "here", &["--select", "new"])).expect(0);
}

#[test]
fn without_yes_nobody_is_even_called() {
    let scene = Scene::new();
    let mut get = scene.handover("receiver", &["get"]);
    get.env("HANDOVER_CODE", "whatever");
    let got = run(get).expect(2);
    assert!(got.stderr.contains("--yes"), "{}", got.stderr);
}

/// Rows 2 and 3: a symlink in the way is neither followed nor replaced unasked.
#[test]
fn a_symlink_in_the_way_is_not_followed() {
    let scene = Scene::new();
    scene.file("sent/file", b"from the sender");
    scene.file("canary/file", b"precious");
    let sender = scene.send(&[&scene.path("sent")], &[]);
    for (on_conflict, exit) in [("skip", 0), ("rename", 0), ("overwrite", 0)] {
        // In place of the file itself, with a target that exists and one that does not.
        for target in ["../../canary/file", "../../canary/new"] {
            let here = format!("{on_conflict} {}", target.len());
            fs::create_dir_all(scene.path(&here).join("sent")).unwrap();
            symlink(target, scene.path(&here).join("sent/file")).unwrap();
            run(scene.get(&sender.code, &here, &["--on-conflict", on_conflict])).expect(exit);
        }
        // In place of the folder above it.
        let here = format!("{on_conflict} above");
        fs::create_dir(scene.path(&here)).unwrap();
        symlink("../canary", scene.path(&here).join("sent")).unwrap();
        let got = run(scene.get(&sender.code, &here, &["--on-conflict", on_conflict]));
        assert_ne!(got.exit, Some(1), "{}", got.stderr);
    }
    assert_eq!(tree::names(&scene.path("canary")), ["file"]);
    assert_eq!(text(&scene.path("canary/file")), "precious");
}

#[test]
fn a_folder_in_the_way_of_a_file_stays() {
    let scene = Scene::new();
    scene.file("sent/thing", b"a file");
    scene.file("here/sent/thing/inside", b"precious");
    let sender = scene.send(&[&scene.path("sent")], &[]);
    for on_conflict in ["skip", "overwrite", "rename"] {
        let got = get(&scene, &sender, on_conflict);
        assert!(
            matches!(got.exit, Some(0 | 5 | 6)),
            "{on_conflict}: {got:?}"
        );
        assert_eq!(text(&scene.path("here/sent/thing/inside")), "precious");
    }
    assert_eq!(text(&scene.path("here/sent/thing (1)")), "a file");
}
