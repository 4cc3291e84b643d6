//! Secrets stay out of process lists and logs (rows 6 and 25).

mod support;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use handover_core::code::ShareCode;
use support::{Process, Scene, noise};

fn command_line(process: u32) -> String {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// The ids of processes that `of` has started.
fn children(of: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse::<u32>()
            .ok()
    };
    processes
        .filter(|process| parent(process) == Some(of))
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_crash_leaves_no_image_of_the_memory() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent/file", b"x")], &[]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", sender.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let values: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(values, ["0", "0"], "{limits}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_code_by_variable_or_input_is_in_no_process_list() {
    let scene = Scene::new();
    let sender = scene.send(&[&scene.file("sent/file", &noise(30_000_000, 1))], &[]);
    assert!(!command_line(sender.id()).contains(&sender.code));

    let by_variable = Process::start(scene.get(&sender.code, "variable", &[]));
    let mut by_input = scene.handover("receiver", &["get", "--yes", "--to", "input"]);
    by_input.stdin(Stdio::piped());
    let mut by_input = Process::start(by_input);
    by_input.type_in(format!("{}\n", sender.code).as_bytes());
    let mut seen = 0;
    for mut process in [by_variable, by_input] {
        while !process.has_ended() {
            let shown = command_line(process.id());
            assert!(!shown.contains(&sender.code[..20]), "{shown}");
            seen += usize::from(shown.contains("get"));
            std::thread::sleep(Duration::from_millis(1));
        }
        process.wait().expect(0);
    }
    assert!(seen > 0, "no command line was looked at in time");
}

#[cfg(target_os = "linux")]
#[test]
fn the_demo_gives_no_code_away() {
    let scene = Scene::new();
    let mut demo = Process::start(scene.bare(&["demo"]));
    let mut shown = std::collections::BTreeSet::new();
    while !demo.has_ended() {
        shown.extend(children(demo.id()).into_iter().map(command_line));
        std::thread::sleep(Duration::from_millis(1));
    }
    let screen = demo.wait().expect(0).stderr;
    let invitation = screen.lines().find(|line| line.contains("handover get"));
    let code = invitation.and_then(|line| line.split(' ').next_back());
    let code = code.expect("the code on the screen");
    assert_eq!(
        code.split('-').count(),
        3,
        "codes look different now: {code}"
    );
    let receivers = shown.iter().filter(|line| line.contains(" get "));
    let seen = receivers.count();
    assert!(shown.iter().all(|line| !line.contains(code)), "{shown:?}");
    assert!(seen > 0, "the receiver was not seen");
}

#[test]
fn logs_have_no_secrets_and_above_debug_no_addresses() {
    let scene = Scene::new();
    let file = scene.file("sent/file", &noise(100_000, 2));
    for verbosity in ["-v", "-vv"] {
        let sender = scene.send(&[&file], &[verbosity, "--once"]);
        let code = sender.code.clone();
        let got = Process::start(scene.get(&code, verbosity, &[verbosity]))
            .wait()
            .expect(0);
        let (_, sent) = sender.wait();
        let parsed = ShareCode::parse(&code).unwrap();
        let secret = *parsed.secret().unwrap().as_bytes();
        let hex = secret
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let list = format!("{secret:?}");
        for log in [&got.stderr, &sent] {
            for marker in [
                code.as_str(),
                &hex,
                &hex.to_uppercase(),
                list.trim_matches(['[', ']']),
                key(&code).as_str(),
            ] {
                assert!(!log.contains(marker), "{verbosity}: {log}");
            }
            if verbosity == "-v" {
                assert!(
                    !log.contains("127.0.0.1") && !log.contains("/ip4") && !log.contains("/ip6"),
                    "{log}"
                );
            }
        }
    }
}

/// The key in the form in which the code contains it.
fn key(code: &str) -> String {
    let ticket = ShareCode::parse(code).unwrap();
    let ShareCode::Ticket(ticket) = ticket else {
        panic!("not a ticket");
    };
    let mut other = ticket.clone();
    other.addresses.clear();
    // A legacy code contains the key in plain text.
    other
        .addresses
        .push("/ip4/192.168.7.7/tcp/7".parse().unwrap());
    let legacy = handover_core::code::LegacyCode::of(&other)
        .unwrap()
        .encode();
    legacy.split(':').nth(1).unwrap().to_string()
}
