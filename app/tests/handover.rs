//! Files are transferred from one peer to another, and are the same on both sides.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Process, Scene, Sender, noise, run, run_by, tree};

fn folder_over(transport: &str) {
    let scene = Scene::new();
    let folder = scene.path("sent/motley");
    tree::motley(&folder);
    // Loopback only, so that no other address of this machine wins the race.
    let address = match transport {
        "tcp" => "/ip4/127.0.0.1/tcp/0",
        _ => "/ip4/127.0.0.1/udp/0/quic-v1",
    };
    let sender = scene.send(
        &[&folder],
        &["--transport", transport, "--listen", address, "--once"],
    );
    let got = run(scene.get(
        &sender.code,
        "received",
        &["--exec", "--transport", transport],
    ))
    .expect(0);
    assert_eq!(
        tree::read(&scene.path("received")),
        tree::read(&scene.path("sent"))
    );
    let end = got.event("download_ended");
    assert_eq!(end["outcome"], "completed");
    assert_eq!(
        (end["failed"].as_u64(), end["path"].as_str()),
        (Some(0), Some("loopback"))
    );
    assert_eq!(sender.wait().0, Some(0));
}

#[test]
fn a_folder_goes_over_tcp_with_all_that_belongs_to_it() {
    folder_over("tcp");
}

#[test]
fn a_folder_goes_over_quic_with_all_that_belongs_to_it() {
    folder_over("quic");
}

#[test]
fn an_empty_folder_alone_arrives() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("sent/nothing")).unwrap();
    let sender = scene.send(&[&scene.path("sent/nothing")], &[]);
    run(scene.get(&sender.code, "received", &[])).expect(0);
    assert_eq!(
        tree::read(&scene.path("received")),
        tree::read(&scene.path("sent"))
    );
}

#[test]
fn a_symlink_that_leads_out_is_left_out_and_told() {
    let scene = Scene::new();
    scene.file("secret", b"not shared");
    scene.file("sent/file", b"shared");
    symlink("../secret", scene.path("sent/out")).unwrap();
    symlink("/etc/passwd", scene.path("sent/absolute")).unwrap();
    symlink("file", scene.path("sent/in")).unwrap();
    let mut sender = start_unasked(&scene, &[&scene.path("sent")]);
    let skipped = sender.await_event("share_scanned")["skipped"].clone();
    let mut names: Vec<&str> = skipped
        .as_array()
        .unwrap()
        .iter()
        .map(|left_out| left_out["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names[0].ends_with("absolute") && names[1].ends_with("out"),
        "{names:?}"
    );
    let open = sender.await_event("share_open");
    run(scene.get(open["code"].as_str().unwrap(), "received", &[])).expect(0);
    assert_eq!(
        tree::names(&scene.path("received")),
        ["sent", "sent/file", "sent/in"]
    );
}

/// A sender none of whose events have been read.
fn start_unasked(scene: &Scene, paths: &[&Path]) -> Sender {
    let mut command = scene.handover("sender", &["send", "--json"]);
    command.args(paths);
    Sender::start_unopened(command)
}

#[test]
fn a_hundred_paths_go_at_once() {
    let scene = Scene::new();
    let paths: Vec<PathBuf> = (0..100)
        .map(|n| scene.file(&format!("sent/{n:02}"), &noise(n * 37, 2)))
        .collect();
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let sender = scene.send(&paths, &[]);
    let got = run(scene.get(&sender.code, "received", &[])).expect(0);
    let sent = tree::read(&scene.path("sent"));
    assert_eq!(tree::read(&scene.path("received/00 and 99 more")), sent);
    assert_eq!(got.event("offer")["name"], "00 and 99 more");
    run(scene.get(&sender.code, "unpacked", &["--here"])).expect(0);
    assert_eq!(tree::read(&scene.path("unpacked")), sent);
}

#[test]
fn standard_input_goes_to_standard_output() {
    let scene = Scene::new();
    for (peer, len) in [("empty", 0), ("one byte", 1), ("large", 3_000_001)] {
        let bytes = noise(len, 3);
        let mut command = scene.handover(peer, &["send", "--json", "--once", "-"]);
        command.stdin(Stdio::from(
            fs::File::open(scene.file("stream", &bytes)).unwrap(),
        ));
        let sender = Sender::start(command);
        let mut get = scene.handover("receiver", &["get", "--output", "-"]);
        get.env("HANDOVER_CODE", &sender.code);
        let got = run(get).expect(0);
        assert!(
            got.stdout == bytes,
            "{} of {len} bytes came",
            got.stdout.len()
        );
        assert_eq!(sender.wait().0, Some(0));
    }
}

#[test]
fn a_stream_is_a_file_in_a_folder() {
    let scene = Scene::new();
    let bytes = noise(700_000, 4);
    let mut command = scene.handover("sender", &["send", "--json", "-", "--name", "shop.sql"]);
    command.stdin(Stdio::from(
        fs::File::open(scene.file("stream", &bytes)).unwrap(),
    ));
    let sender = Sender::start(command);
    run(scene.get(&sender.code, "received", &[])).expect(0);
    assert!(fs::read(scene.path("received/shop.sql")).unwrap() == bytes);
}

#[test]
fn one_file_of_many_goes_to_standard_output_where_it_is_selected() {
    let scene = Scene::new();
    scene.file("sent/a", b"this");
    scene.file("sent/b", b"that");
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let get = |options: &[&str]| {
        let mut get = scene.handover("receiver", &["get", "--output", "-"]);
        get.args(options).env("HANDOVER_CODE", &sender.code);
        run(get)
    };
    assert_eq!(get(&["--select", "b"]).expect(0).stdout, b"that");
    let both = get(&[]).expect(2);
    assert!(
        both.stdout.is_empty() && both.stderr.contains("a pipe takes one file"),
        "{}",
        both.stderr
    );
}

#[test]
fn only_what_is_selected_comes() {
    let scene = Scene::new();
    for name in ["maps/a.map", "maps/b.map", "readme.txt", "deep/er/c.map"] {
        scene.file(&format!("sent/{name}"), name.as_bytes());
    }
    let sender = scene.send(&[&scene.path("sent")], &[]);
    run(scene.get(
        &sender.code,
        "some",
        &["--select", "*.txt", "--select", "maps"],
    ))
    .expect(0);
    let some = tree::names(&scene.path("some"));
    assert_eq!(
        some,
        [
            "sent",
            "sent/maps",
            "sent/maps/a.map",
            "sent/maps/b.map",
            "sent/readme.txt"
        ]
    );
    let none = run(scene.get(&sender.code, "none", &["--select", "*.png"])).expect(2);
    assert!(none.stderr.contains("--select"), "{}", none.stderr);
    assert!(!scene.path("none").exists());
}

#[test]
fn a_program_is_not_executable_unless_that_was_agreed_to() {
    let scene = Scene::new();
    let program = scene.file("sent/run.sh", b"#!/bin/sh\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let sender = scene.send(&[&program], &[]);
    let got = run(scene.get(&sender.code, "unasked", &[])).expect(0);
    assert_eq!(got.event("download_ended")["executables_stripped"], 1);
    run(scene.get(&sender.code, "agreed", &["--exec"])).expect(0);
    let mode = |folder: &str| {
        fs::metadata(scene.path(folder).join("run.sh"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("unasked"), mode("agreed")), (0o644, 0o755));
}

/// Files that the sender had made writable for everybody were once writable for everybody at the receiver too.
#[test]
fn the_sender_s_modes_do_not_override_the_receiver_s_umask() {
    let scene = Scene::new();
    let file = scene.file("sent/for all/to write", b"bytes");
    for (path, mode) in [(file.as_path(), 0o666), (file.parent().unwrap(), 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let sender = scene.send(&[file.parent().unwrap()], &[]);
    for (umask, modes) in [("077", (0o600, 0o700)), ("022", (0o644, 0o755))] {
        let to = format!("under {umask}");
        let got = with_umask(umask, &scene.get(&sender.code, &to, &[]));
        run(got).expect(0);
        let mode = |name: &str| {
            let metadata = fs::metadata(scene.path(&to).join(name)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        assert_eq!(
            (mode("for all/to write"), mode("for all")),
            modes,
            "{umask}"
        );
    }
}

/// The same command, run by a shell that sets this umask first.
fn with_umask(umask: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    let line = format!("umask {umask}; exec \"$0\" \"$@\"");
    shell.args(["-c", &line]);
    run_by(shell, command)
}

#[test]
fn the_code_comes_by_argument_variable_or_standard_input() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent/file", b"bytes")], &[]);
    let mut argument = scene.handover("receiver", &["get", "--yes", "--to", "argument"]);
    argument.arg(&sender.code);
    run(argument).expect(0);
    let mut variable = scene.handover("receiver", &["get", "--yes", "--to", "variable"]);
    variable.env("HANDOVER_CODE", &sender.code);
    run(variable).expect(0);
    let mut input = scene.handover("receiver", &["get", "--yes", "--to", "input"]);
    input.stdin(Stdio::piped());
    let mut input = Process::start(input);
    // The pipe stays open: one line is enough.
    input.type_in(format!("handover get {}\n", sender.code).as_bytes());
    eventually_ends(&mut input);
    for folder in ["argument", "variable", "input"] {
        assert_eq!(fs::read(scene.path(folder).join("file")).unwrap(), b"bytes");
    }
}

fn eventually_ends(process: &mut Process) {
    support::eventually("the end of the process", || process.has_ended());
}

#[test]
fn one_account_can_hand_over_to_itself() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent/file", b"bytes")], &[]);
    let mut get = scene.handover("sender", &["get", "--yes", "--to", "received"]);
    get.env("HANDOVER_CODE", &sender.code);
    run(get).expect(0);
    assert_eq!(fs::read(scene.path("received/file")).unwrap(), b"bytes");
}

#[test]
fn the_code_can_be_piped_to_the_receiver() {
    let scene = Scene::new();
    scene.file("sent/file", b"bytes");
    let mut send = scene.handover("sender", &["send", "--once", "sent"]);
    send.stderr(Stdio::null());
    let mut send = send.spawn().unwrap();
    let mut get = scene.handover("receiver", &["get", "--yes", "--to", "received"]);
    get.stdin(send.stdout.take().unwrap());
    run(get).expect(0);
    assert!(send.wait().unwrap().success());
    assert_eq!(
        fs::read(scene.path("received/sent/file")).unwrap(),
        b"bytes"
    );
}

#[test]
fn the_demo_works() {
    let scene = Scene::new();
    let mut demo = scene.bare(&["demo"]);
    // Its folders must be gone afterwards.
    let temp = scene.path("temp");
    fs::create_dir(&temp).unwrap();
    demo.env("TMPDIR", &temp);
    let shown = run(demo).expect(0).stderr;
    assert!(
        shown.contains("[send] demo · 10 files") && shown.contains("[get] ✓ received"),
        "{shown}"
    );
    assert!(shown.contains("the same on both sides"), "{shown}");
    assert!(tree::names(&temp).is_empty());
}

#[test]
fn completions_are_printed_for_every_shell() {
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(scene.bare(&["completions", shell])).expect(0).stdout;
        assert!(String::from_utf8(script).unwrap().contains("handover"));
    }
}

#[test]
fn a_closed_pipe_ends_it_with_the_disk_s_number() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent/file", &noise(5_000_000, 5))], &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut get = scene.handover("receiver", &["get", "--output", "-"]);
    get.env("HANDOVER_CODE", &sender.code).stdout(writer);
    let get = Process::start(get);
    drop(reader);
    let got = get.wait().expect(6);
    assert!(got.stderr.contains("the pipe was closed"), "{}", got.stderr);
    // The sender keeps running.
    let mut again = scene.handover("receiver", &["get", "--output", "-"]);
    again.env("HANDOVER_CODE", &sender.code);
    let again = run(again).expect(0);
    assert_eq!(again.stdout.len(), 5_000_000);
}
