//! Network namespaces, by the `ip` program. Tests that make them are listed in the `main` of their file.

use std::process::{Command, Stdio};

/// Runs `ip` with arguments that have no spaces in them.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("the ip program; Debian's package is iproute2");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {words}");
}

/// A command inside of a namespace, with its outputs collected.
pub fn inside(namespace: &str, command: &Command) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", namespace]);
    inside.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        inside.current_dir(folder);
    }
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(key, value),
            None => inside.env_remove(key),
        };
    }
    inside
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    inside
}

/// Removes a namespace; what runs in it goes on without a network.
pub fn delete(namespace: &str) {
    let _ = Command::new("ip")
        .args(["netns", "del", namespace])
        .status();
}
