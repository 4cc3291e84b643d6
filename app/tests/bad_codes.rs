//! Codes that are wrong, truncated or old, or lead nowhere.

mod support;

use handover_core::code::{ShareCode, Ticket};
use handover_core::secret::ShareSecret;
use rustix::process::Signal;
use support::{Outcome, Scene, run};

fn get(scene: &Scene, code: &str, options: &[&str]) -> Outcome {
    let got = run(scene.get(code, "here", options));
    assert!(!scene.path("here").exists(), "something was made");
    got
}

fn ticket(code: &str) -> Ticket {
    match ShareCode::parse(code) {
        Ok(ShareCode::Ticket(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_code_is_refused_before_anybody_is_called() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent/file", b"bytes")], &[]);
    let code = &sender.code;
    let long = "A".repeat(100_000);
    for wrong in [
        "hello",
        "no code at all!",
        "4827193-amber-otter",
        "GAZ3-VTDS-YQP7",
        "GAZ3-VTDS-YQP7:short:10.0.0.1:1",
        "https://example.org/",
        "\u{1b}[2J",
        &code[..code.len() / 2],
        &code[1..],
        &long,
    ] {
        let got = get(&scene, wrong, &[]).expect(2);
        assert!(
            got.stderr.contains('✗') && !got.stderr.contains('\u{1b}'),
            "{}",
            got.stderr
        );
        assert!(
            !got.events()
                .iter()
                .any(|event| event["event"] == "connecting")
        );
    }
}

#[test]
fn an_empty_input_has_no_code() {
    let scene = Scene::new();
    let got = run(scene.handover("receiver", &["get", "--yes"])).expect(2);
    assert!(got.stderr.contains("no code"), "{}", got.stderr);
}

#[test]
fn a_wrong_key_opens_nothing() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent/file", b"bytes")], &[]);
    let mut ticket = ticket(&sender.code);
    ticket.secret = ShareSecret::from_bytes([7; 32]);
    get(&scene, &ticket.encode(), &[]).expect(7);
}

#[test]
fn a_wrong_peer_is_not_talked_to() {
    let scene = Scene::new();
    let [one, other] = ["one", "other"].map(|peer| {
        let mut send = scene.handover(peer, &["send", "--json"]);
        send.arg(scene.file("sent/file", b"bytes"));
        support::Sender::start(send)
    });
    let mut mixed = ticket(&one.code);
    mixed.addresses = ticket(&other.code).addresses;
    get(&scene, &mixed.encode(), &["--wait", "1"]).expect(3);
}

#[test]
fn an_old_code_leads_to_nobody_or_is_refused() {
    let scene = Scene::new();
    let file = scene.file("sent/file", b"bytes");
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let sender = scene.send(&[&file], &listen);
    let code = sender.code.clone();
    sender.signal(Signal::INT);
    assert_eq!(sender.wait().0, Some(130));
    let got = get(&scene, &code, &["--wait", "1"]).expect(3);
    assert!(
        got.stderr.contains("could not be reached"),
        "{}",
        got.stderr
    );

    // The same peer again, at the same address, with another share.
    let address = ticket(&code).addresses[0].to_string();
    let _sender = scene.send(&[&file], &["--listen", &address]);
    let got = get(&scene, &code, &[]).expect(7);
    assert!(got.stderr.contains("no longer offers"), "{}", got.stderr);
}

/// Row 26.
#[test]
fn loopback_is_dialled_only_where_the_user_says_so() {
    let scene = Scene::new();
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let sender = scene.send(&[&scene.file("sent/file", b"bytes")], &listen);
    let mut get = scene.bare(&[
        "get",
        "--yes",
        "--json",
        "--to",
        "here",
        "--data-dir",
        "receiver",
    ]);
    get.env("HANDOVER_CODE", &sender.code);
    let got = run(get).expect(3);
    assert!(got.stderr.contains("--loopback"), "{}", got.stderr);
    assert!(
        !got.events()
            .iter()
            .any(|event| event["event"] == "connecting")
    );
}

#[test]
fn what_can_not_be_shared_is_told() {
    let scene = Scene::new();
    let missing = run(scene.handover("sender", &["send", "missing"])).expect(2);
    assert!(missing.stderr.contains("missing"), "{}", missing.stderr);
    let both = run(scene.handover("sender", &["send", "-", "."])).expect(2);
    assert!(both.stderr.contains("stream"), "{}", both.stderr);
    let socket = scene.path("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    run(scene.handover("sender", &["send", "--json", "socket"])).expect(6);
}
