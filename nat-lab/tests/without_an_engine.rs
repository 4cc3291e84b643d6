//! The error message of the lab's command for root where no container engine runs.

use std::process::{Command, ExitCode};

use handover_test_needs::{Need, Tests, tests};

fn main() -> ExitCode {
    let tests = tests![it_says_how_to_come_by_one];
    Tests::default().needing(&[Need::Namespaces], tests).run()
}

fn it_says_how_to_come_by_one() {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_handover-nat-lab"));
    lab.args(["verify", "prc"]);
    // No engine listens on this socket.
    lab.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let output = lab.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let answers = told.contains("container engine can't be reached") && told.contains("docker.io");
    // On a machine that lacks a program, that error comes first.
    assert!(answers || told.contains("Debian's package is"), "{told}");
}
