//! What a user at a terminal is asked, and what the answers do.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::terminal::Terminal;
use support::{Scene, Sender, run, tree};

fn scene() -> (Scene, Sender) {
    let scene = Scene::new();
    for n in 0..12 {
        scene.file(&format!("sent/{n:02}.txt"), &vec![b'x'; 100 + n]);
    }
    let program = scene.file("sent/run.sh", b"#!/bin/sh\n");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    let sender = scene.send(&[&scene.path("sent")], &["--author", "bob\u{1b}[2J"]);
    (scene, sender)
}

fn get(scene: &Scene) -> Terminal {
    Terminal::start(scene.handover("receiver", &["get", "--to", "here"]))
}

fn mode(scene: &Scene) -> u32 {
    fs::metadata(scene.path("here/sent/run.sh"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn the_code_is_asked_for_and_the_offer_is_accepted_by_enter() {
    let (scene, sender) = scene();
    let mut get = get(&scene);
    get.sees("code: ");
    get.types("not a code");
    get.sees("✗");
    get.sees("code: ");
    get.types(&format!("handover get {}", sender.code));
    get.sees("bob\\u{1b}[2J wants to send \"sent\", 13 files");
    get.sees("11.txt");
    get.sees("more (l to list)");
    get.sees("run.sh");
    get.sees("accept? [Y/n/l/x] ");
    get.types("what?");
    get.sees("l lists everything");
    get.sees("accept? [Y/n/l/x] ");
    get.types("l");
    get.sees("00.txt");
    get.sees("accept? [Y/n/l/x] ");
    get.types("");
    get.sees("received \"sent\"");
    let (exit, screen) = get.ends();
    assert_eq!(exit, Some(0), "{screen}");
    assert_eq!(
        tree::read(&scene.path("here/sent")),
        tree::read(&scene.path("sent"))
    );
}

#[test]
fn no_is_no() {
    let (scene, mut sender) = scene();
    let mut get = get(&scene);
    get.sees("code: ");
    get.types(&sender.code);
    get.sees("accept?");
    get.types("n");
    let (exit, screen) = get.ends();
    assert_eq!(exit, Some(4), "{screen}");
    assert!(!scene.path("here").exists());
    assert_eq!(sender.await_event("receiver_left")["outcome"], "declined");
}

#[test]
fn x_takes_programs_without_their_bit() {
    let (scene, sender) = scene();
    let mut get = get(&scene);
    get.sees("code: ");
    get.types(&sender.code);
    get.sees("accept?");
    get.types("x");
    let (exit, screen) = get.ends();
    assert_eq!(exit, Some(0), "{screen}");
    assert_eq!(mode(&scene), 0o644);
}

#[test]
fn what_exists_is_asked_about_once() {
    let (scene, sender) = scene();
    for (answer, expected, exit) in [
        ("c", "precious", 4),
        ("", "precious", 0),
        ("o", "#!/bin/sh\n", 0),
    ] {
        scene.file("here/sent/run.sh", b"precious");
        let mut get = get(&scene);
        get.sees("code: ");
        get.types(&sender.code);
        get.sees("here already");
        get.sees("accept?");
        get.types("y");
        get.sees("here already:");
        get.sees("[c]ancel? ");
        get.types("perhaps");
        get.sees("[c]ancel? ");
        get.types(answer);
        let (ended, screen) = get.ends();
        assert_eq!(ended, Some(exit), "{screen}");
        assert_eq!(
            fs::read_to_string(scene.path("here/sent/run.sh")).unwrap(),
            expected
        );
    }
}

#[test]
fn a_withdrawn_offer_ends_the_question() {
    let (scene, sender) = scene();
    let mut get = get(&scene);
    get.sees("code: ");
    get.types(&sender.code);
    get.sees("accept?");
    sender.signal(rustix::process::Signal::INT);
    get.sees("stopped sharing");
    assert_eq!(get.ends().0, Some(7));
}

#[test]
fn a_mistyped_word_is_asked_for_again_with_what_may_be_meant() {
    let (scene, _sender) = scene();
    let mut get = get(&scene);
    get.sees("code: ");
    get.types("4827193-ambre-otter");
    get.sees("the first word");
    get.sees("Did you mean \"amber\"?");
    get.sees("code: ");
    get.types("4827193-amber-oter");
    get.sees("the second word");
    get.sees("Did you mean \"otter\"?");
    get.sees("code: ");
    get.types("4827193-xylophon-otter");
    get.sees("the first word");
    let (exit, screen) = get.ends();
    assert_eq!(exit, Some(2), "{screen}");
}

#[test]
fn an_argument_that_is_mistyped_is_answered_with_what_may_be_meant() {
    let scene = Scene::new();
    let arguments = ["get", "--yes", "4827193-ambre-otter"];
    let mut get = Terminal::start(scene.handover("receiver", &arguments));
    get.sees("the first word");
    get.sees("Did you mean \"amber\"?");
    assert_eq!(get.ends().0, Some(2));

    // No suggestion without a terminal, where the output may be a log.
    let got = run(scene.handover("receiver", &arguments)).expect(2);
    assert!(!got.stderr.contains("amber"), "{}", got.stderr);
}

#[test]
fn tab_completes_words() {
    let (scene, _sender) = scene();
    let mut get = get(&scene);
    get.sees("code: ");
    get.types("482719\u{7f}\u{7f}193-ambe\tott\t");
    get.sees("amber-");
    get.sees("otter");
    // The code is valid, but on this computer alone nobody can be asked for it.
    get.sees("a short code is looked for");
    assert_eq!(get.ends().0, Some(2));
}

#[test]
fn a_pasted_code_may_be_longer_than_a_terminal_s_line() {
    let (scene, sender) = scene();
    let mut get = get(&scene);
    get.sees("code: ");
    get.types(&format!("{}{}", " ".repeat(5000), sender.code));
    get.sees("accept?");
    get.types("n");
    assert_eq!(get.ends().0, Some(4));
}

/// The share "Holiday photos" once put `.bash_profile` and `.ssh/authorized_keys` into the receiver's home without
/// asking.
#[test]
fn what_a_shell_would_read_is_asked_about_and_never_taken_by_yes_alone() {
    let scene = Scene::new();
    scene.file("sent/photo.jpg", b"a photo");
    scene.file("sent/.bash_profile", b"echo hello\n");
    scene.file("sent/.ssh/authorized_keys", b"ssh-ed25519 AAAA\n");
    let sent: Vec<_> = ["photo.jpg", ".bash_profile", ".ssh"]
        .map(|name| scene.path("sent").join(name))
        .into();
    let sent: Vec<_> = sent.iter().map(std::path::PathBuf::as_path).collect();
    let sender = scene.send(&sent, &["--name", "Holiday photos"]);
    let home = scene.path("home");
    let at_home = |to: &str, options: &[&str]| {
        fs::create_dir_all(&home).unwrap();
        let mut command = scene.get(&sender.code, to, options);
        command.env("HOME", &home);
        command
    };

    // In the share's own folder, used when it has several names at the top, they are ordinary files; also the second
    // time.
    for options in [&[][..], &["--on-conflict", "skip"]] {
        run(at_home("home", options)).expect(0);
        assert_eq!(tree::names(&home)[0], "Holiday photos");
        assert!(home.join("Holiday photos/.ssh/authorized_keys").exists());
        assert_eq!(tree::names(&home).len(), 5);
    }
    fs::remove_dir_all(&home).unwrap();
    let mut command = scene.handover("receiver", &["get", "--to", "home"]);
    command.env("HANDOVER_CODE", &sender.code);
    let mut get = Terminal::start(command);
    get.sees("all of it goes into a folder of its own, \"Holiday photos\"");
    get.sees("accept? [Y/n/l]");
    get.types("n");
    assert_eq!(get.ends().0, Some(4));

    let told = run(at_home("home", &["--here", "--no-known"])).expect(2);
    let stdout = String::from_utf8(told.stdout).unwrap();
    let is_offer = |line: &&str| line.contains("\"event\":\"offer\"");
    let offer = stdout.lines().find(is_offer);
    let offer: serde_json::Value = serde_json::from_str(offer.unwrap()).unwrap();
    let read = |entry: &serde_json::Value| entry["read_by_itself"].as_bool().unwrap();
    let entries = offer["entries"].as_array().unwrap();
    assert_eq!(entries.iter().filter(|entry| read(entry)).count(), 2);
    assert!(offer["folder"].is_null());

    let refused = run(at_home("home", &["--here"])).expect(2);
    assert!(refused.stderr.contains("--dotfiles"), "{}", refused.stderr);
    assert_eq!(tree::names(&home), [] as [&str; 0]);

    for (answer, exit, names) in [
        ("", 4, &[][..]),
        ("n", 4, &[]),
        (
            "y",
            0,
            &[".bash_profile", ".ssh", ".ssh/authorized_keys", "photo.jpg"],
        ),
    ] {
        let mut command = scene.handover("receiver", &["get", "--here", "--to", "home"]);
        command
            .env("HOME", &home)
            .env("HANDOVER_CODE", &sender.code);
        let mut get = Terminal::start(command);
        get.sees("2 hidden files");
        get.sees("accept? [Y/n/l]");
        get.types("y");
        get.sees("2 files would land where");
        get.sees(".bash_profile");
        get.sees("let them land there? [y/N]");
        get.types(answer);
        let (code, screen) = get.ends();
        assert_eq!(code, Some(exit), "{screen}");
        assert_eq!(tree::names(&home), names);
    }
    fs::remove_dir_all(&home).unwrap();
    run(at_home("home", &["--here", "--dotfiles"])).expect(0);
    assert!(home.join(".ssh/authorized_keys").exists());

    // The same in a folder that the user names.
    run(at_home("home/photos", &["--here"])).expect(0);
    assert!(home.join("photos/.ssh/authorized_keys").exists());
}
