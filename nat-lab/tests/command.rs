//! Error messages of the lab's command. No container is created here.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn lab(arguments: &[&str]) -> Command {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_handover-nat-lab"));
    lab.args(arguments);
    // No engine listens on this socket.
    lab.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    lab
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn places_are_named_without_anything_else() {
    let output = lab(&["list"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for place in ["prc-np", "sym-seq", "fc+sym", "one-carrier-hairpin"] {
        assert!(text.contains(place), "{place}: {text}");
    }
}

#[test]
fn a_wrong_scenario_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    for (text, wanted) in [
        ("about = 1", "about"),
        (
            "about = \"x\"\nhosts.a = {}\nhosts.b = {}\ntransfer = { from = \"a\", to = \"c\", bytes = 1 }",
            "\"c\" is no host; there is: a, b",
        ),
        (
            "about = \"x\"\nhosts.a = { behind = \"b\" }\nhosts.c = {}\ngateways.b = { nat = \"cone\" }\ntransfer = { from = \"a\", to = \"c\", bytes = 1 }",
            "cone",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = lab(&["run", file.to_str().unwrap()]).output().unwrap();
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("wrong.toml: ") && told.contains(wanted),
            "{told}"
        );
    }
    let output = lab(&["run", "nowhere.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("nowhere.toml: No such file"));
}

#[test]
fn all_scenarios_of_the_lab_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let read = handover_nat_lab::scenario::Scenario::read(&text);
        assert!(read.is_ok(), "{}: {read:?}", path.display());
        count += 1;
    }
    assert!(count > 3);
}

#[test]
fn without_root_it_says_why_that_is_needed() {
    /// ID of a user who owns no files.
    const NOBODY: u32 = 65534;
    // In a folder where that user can read it.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let program = folder.path().join("lab");
    std::fs::copy(env!("CARGO_BIN_EXE_handover-nat-lab"), &program).unwrap();
    let mut lab = Command::new(&program);
    lab.arg("clean").current_dir("/");
    if rustix::process::geteuid().is_root() {
        lab.uid(NOBODY);
    }
    let output = lab.output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("root is needed") && told.contains("sudo"),
        "{told}"
    );
}
