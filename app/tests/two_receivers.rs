//! One share, several receivers.

mod support;

use rustix::process::Signal;
use support::{Process, Scene, noise, run, tree};

#[test]
fn two_at_once_and_one_later() {
    let scene = Scene::new();
    scene.file("sent/large", &noise(30_000_000, 1));
    scene.file("sent/small", b"small");
    let mut sender = scene.send(&[&scene.path("sent")], &[]);
    let both = ["one", "two"].map(|to| Process::start(scene.get(&sender.code, to, &["--no-seed"])));
    for process in both {
        process.wait().expect(0);
    }
    run(scene.get(&sender.code, "three", &["--no-seed"])).expect(0);
    let sent = tree::read(&scene.path("sent"));
    for to in ["one", "two", "three"] {
        assert_eq!(tree::read(&scene.path(to).join("sent")), sent, "{to}");
    }
    for _ in 0..3 {
        let left = sender.await_event("receiver_left");
        assert_eq!(
            (&left["outcome"], left["sent"].as_u64()),
            (&"completed".into(), Some(30_000_005))
        );
    }
    sender.signal(Signal::INT);
    assert_eq!(sender.wait().0, Some(0));
}

#[test]
fn once_is_once() {
    let scene = Scene::new();
    let mut sender = scene.send(&[&scene.file("sent", b"bytes")], &["--once"]);
    // A receiver that declines does not count.
    run(scene.get(&sender.code, "declined", &["--select", "nothing like it"])).expect(2);
    assert_eq!(sender.await_event("receiver_left")["outcome"], "declined");
    run(scene.get(&sender.code, "one", &[])).expect(0);
    assert_eq!(sender.await_event("share_ended")["reason"], "used_up");
    let code = sender.code.clone();
    assert_eq!(sender.wait().0, Some(0));
    run(scene.get(&code, "two", &["--wait", "1"])).expect(3);
}

#[test]
fn a_killed_receiver_does_not_disturb_the_other() {
    let scene = Scene::new();
    scene.file("sent/large", &noise(60_000_000, 2));
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let [killed, other] = ["one", "two"].map(|to| Process::start(scene.get(&sender.code, to, &[])));
    support::eventually("the first transfer", || scene.path("one").exists());
    killed.kill();
    other.wait().expect(0);
    assert_eq!(
        tree::read(&scene.path("two/sent")),
        tree::read(&scene.path("sent"))
    );
}
