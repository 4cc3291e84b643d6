//! Ctrl-C: the first one ends properly, the second one at once.

mod support;

use std::process::Stdio;

use rustix::process::Signal;
use support::{Process, Scene, Sender, eventually, noise, run, tree};

fn large() -> (Scene, Sender) {
    let scene = Scene::new();
    scene.file("sent/large", &noise(150_000_000, 1));
    let sender = scene.send(&[&scene.path("sent")], &[]);
    (scene, sender)
}

#[test]
fn a_receiver_keeps_what_it_has_and_says_goodbye() {
    let (scene, mut sender) = large();
    for signal in [Signal::INT, Signal::TERM] {
        let mut get = Sender::start_unopened(scene.get(&sender.code, "here", &[]));
        get.await_event("progress");
        get.signal(signal);
        assert_eq!(get.await_event("download_ended")["outcome"], "suspended");
        assert_eq!(get.wait().0, Some(130));
        let names = tree::names(&scene.path("here"));
        let partial = |name: &String| name.starts_with(".handover-partial-");
        assert!(names.iter().all(partial), "{names:?}");
        assert_eq!(sender.await_event("receiver_left")["outcome"], "cancelled");
    }
    run(scene.get(&sender.code, "here", &[])).expect(0);
    assert_eq!(tree::names(&scene.path("here")), ["sent", "sent/large"]);
}

#[test]
fn a_sender_withdraws_its_share() {
    let (scene, mut sender) = large();
    let get = Process::start(scene.get(&sender.code, "here", &[]));
    sender.await_event("receiver_progress");
    sender.signal(Signal::INT);
    assert_eq!(sender.await_event("share_ended")["reason"], "stopped");
    assert_eq!(sender.wait().0, Some(130));
    let got = get.wait().expect(7);
    assert!(got.stderr.contains("stopped sharing"), "{}", got.stderr);
    let names = tree::names(&scene.path("here"));
    assert!(
        !names.iter().any(|name| name.ends_with("large")),
        "{names:?}"
    );
}

#[test]
fn a_second_one_ends_it_at_once() {
    let (scene, sender) = large();
    let get = Process::start(scene.get(&sender.code, "here", &[]));
    eventually("the transfer", || {
        !tree::names(&scene.path("here")).is_empty()
    });
    get.signal(Signal::INT);
    get.signal(Signal::TERM);
    get.wait().expect(130);
}

#[test]
fn it_is_heard_while_standard_input_is_waited_for() {
    let scene = Scene::new();
    let mut get = scene.handover("receiver", &["get", "--yes"]);
    get.stdin(Stdio::piped());
    let get = Process::start(get);
    get.await_handler(Signal::INT);
    get.signal(Signal::INT);
    get.wait().expect(130);

    let mut send = scene.handover("sender", &["send", "--json", "-"]);
    send.stdin(Stdio::piped());
    let sender = Sender::start(send);
    let get = Process::start(scene.get(&sender.code, "here", &[]));
    eventually("the transfer", || scene.path("here").exists());
    sender.signal(Signal::INT);
    assert_eq!(sender.wait().0, Some(130));
    get.wait().expect(7);
}

#[test]
fn it_is_heard_while_nobody_answers() {
    let (scene, sender) = large();
    let code = sender.code.clone();
    sender.kill();
    let mut get = Sender::start_unopened(scene.get(&code, "here", &[]));
    get.await_event("connecting");
    get.signal(Signal::INT);
    assert_eq!(get.wait().0, Some(130));
}
