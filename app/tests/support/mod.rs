//! Runs the built program as users do: peers are processes, and connect over loopback.
//!
//! Every process is killed by its id when its handle is dropped, whatever the outcome of the test.

// Every test file is a crate of its own, and uses a different part of this module.
#![allow(dead_code, unreachable_pub)]

pub mod internet;
pub mod liar;
pub mod peer;
pub mod places;
pub mod terminal;
pub mod tree;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Timeout for every step of a test.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A test's folder, removed when this is dropped.
pub struct Scene(tempfile::TempDir);

impl Scene {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Creates a file with this content.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The program, with an identity of its own under `peer`, with loopback allowed.
    pub fn handover(&self, peer: &str, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.arg("--data-dir").arg(self.path(peer));
        if matches!(arguments.first(), Some(&("send" | "get"))) {
            command.arg("--loopback");
        }
        command
    }

    /// The program with these arguments only.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("HANDOVER_CODE")
            .env_remove("HANDOVER_DATA_DIR")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Shares `paths`; returns once there is a code.
    pub fn send(&self, paths: &[&Path], options: &[&str]) -> Sender {
        let mut command = self.handover("sender", &["send", "--json"]);
        command.args(options).args(paths);
        Sender::start(command)
    }

    /// Fetches into the folder `to`, accepting every offer.
    pub fn get(&self, code: &str, to: &str, options: &[&str]) -> Command {
        let mut command = self.handover(&format!("receiver of {to}"), &["get", "--yes", "--json"]);
        command
            .env("HANDOVER_CODE", code)
            .arg("--to")
            .arg(self.path(to))
            .args(options);
        command
    }
}

/// A command run by another one, in the first one's folder and with its variables. Its output is collected.
pub fn run_by(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(key, value),
            None => outer.env_remove(key),
        };
    }
    outer
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    outer
}

/// Bytes without a short period, different for every seed.
pub fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32 ^ seed.wrapping_mul(0x85eb_ca6b) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next)
        .take(len.div_ceil(4))
        .flat_map(u32::to_le_bytes)
        .collect();
    bytes.truncate(len);
    bytes
}

/// Exit code and output of a process.
#[derive(Debug)]
pub struct Outcome {
    pub exit: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    /// The events printed with `--json`.
    pub fn events(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The first event with this name.
    pub fn event(&self, name: &str) -> Value {
        let found = self
            .events()
            .into_iter()
            .find(|event| event["event"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, exit: i32) -> Self {
        assert_eq!(
            self.exit,
            Some(exit),
            "{}\n{}",
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }
}

/// A process whose outputs are collected.
pub struct Process {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input, which must be a pipe.
    pub fn type_in(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap();
    }

    /// Waits until it has a handler for a signal.
    #[track_caller]
    pub fn await_handler(&self, signal: Signal) {
        let status = format!("/proc/{}/status", self.id());
        let bit = 1_u64 << (signal.as_raw() - 1);
        eventually("a signal's handler", || {
            let status = std::fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() & bit != 0
        });
    }

    /// Kills it without warning, like a power cut.
    pub fn kill(mut self) -> Outcome {
        self.child.kill().unwrap();
        self.wait()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub fn wait(self) -> Outcome {
        self.wait_for(PATIENCE)
    }

    #[track_caller]
    pub fn wait_for(mut self, patience: Duration) -> Outcome {
        let exit = end_of(&mut self.child, patience);
        if exit.is_none() {
            self.child.kill().unwrap();
        }
        let [stdout, stderr] = [self.stdout.take(), self.stderr.take()].map(|output| {
            output
                .map(|thread| thread.join().unwrap())
                .unwrap_or_default()
        });
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let exit = exit.unwrap_or_else(|| {
            let stdout = String::from_utf8_lossy(&stdout);
            panic!("it did not end within {patience:?}:\n{stdout}\n{stderr}")
        });
        Outcome {
            exit,
            stdout,
            stderr,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        put_down(&mut self.child);
    }
}

/// Runs a command until it ends.
#[track_caller]
pub fn run(command: Command) -> Outcome {
    Process::start(command).wait()
}

/// A sender that has a code.
pub struct Sender {
    child: Child,
    events: Receiver<Value>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    pub code: String,
}

impl Sender {
    /// Starts a command with `send --json` in it, and waits for the code.
    pub fn start(command: Command) -> Self {
        let mut sender = Self::start_unopened(command);
        let open = sender.await_event("share_open");
        sender.code = open["code"].as_str().unwrap().to_string();
        sender
    }

    /// Starts a command without reading any of its events.
    pub fn start_unopened(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (told, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let event = serde_json::from_str(&line.unwrap()).unwrap();
                if told.send(event).is_err() {
                    return;
                }
            }
        });
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            events,
            stderr,
            code: String::new(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until there is a short code and it is announced in the DHT, in either order. Returns the code.
    #[track_caller]
    pub fn await_announced_code(&mut self) -> String {
        let (mut code, mut announced) = (None, false);
        while code.is_none() || !announced {
            let event = self.await_any(&["share_open", "announced"]);
            code = code.or_else(|| event["short"].as_str().map(str::to_string));
            announced |= event["reached"] == true;
        }
        code.unwrap()
    }

    /// Waits for the code of this kind: `code`, `short` or `legacy`. It may come later than others.
    #[track_caller]
    pub fn await_code(&mut self, kind: &str) -> String {
        loop {
            let open = self.await_event("share_open");
            if let Some(code) = open[kind].as_str() {
                return code.to_owned();
            }
        }
    }

    /// Returns the next event with this name, skipping others.
    #[track_caller]
    pub fn await_event(&mut self, name: &str) -> Value {
        self.await_any(&[name])
    }

    /// Returns the next event with any of these names.
    #[track_caller]
    fn await_any(&mut self, names: &[&str]) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if names.iter().any(|name| event["event"] == *name) => return event,
                Ok(event) => before.push(event),
                Err(RecvTimeoutError::Timeout) => panic!("no {names:?} in time, but {before:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let stderr = self
                        .stderr
                        .take()
                        .map(|thread| thread.join().unwrap())
                        .unwrap_or_default();
                    panic!(
                        "it ended without {names:?}: {before:?}\n{}",
                        String::from_utf8_lossy(&stderr)
                    )
                }
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap();
    }

    /// Kills it without warning.
    pub fn kill(mut self) {
        put_down(&mut self.child);
    }

    /// True if it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end. Returns its exit code and standard error output.
    #[track_caller]
    pub fn wait(mut self) -> (Option<i32>, String) {
        let exit = end_of(&mut self.child, PATIENCE).expect("the sender did not end in time");
        let stderr = self
            .stderr
            .take()
            .map(|thread| thread.join().unwrap())
            .unwrap_or_default();
        (exit, String::from_utf8_lossy(&stderr).into_owned())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        put_down(&mut self.child);
    }
}

/// Waits until a condition holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The exit code of a process, or `None` after a timeout; the inner `None` means that a signal ended it.
#[allow(clippy::option_option)]
fn end_of(child: &mut Child, patience: Duration) -> Option<Option<i32>> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn put_down(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn collect(mut output: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        bytes
    })
}

/// A node of a private network: bootstrap, DHT server and relay. Killed when this is dropped.
pub struct Node {
    child: Child,
    /// Its address, for use as bootstrap node.
    pub address: String,
    metrics: std::net::SocketAddr,
}

impl Node {
    pub fn start(scene: &Scene, name: &str, options: &[&str]) -> Self {
        // Another program could take the free port in between; then the node says so and the test fails.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = probe.local_addr().unwrap();
        drop(probe);
        let mut command = scene.bare(&["node", "--private", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        command
            .arg("--data-dir")
            .arg(scene.path(name))
            .arg("--metrics")
            .arg(metrics.to_string())
            .args(options)
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.next().expect("the node's address").unwrap();
        Self {
            child,
            address,
            metrics,
        }
    }

    /// The value of one of its counters.
    pub fn counter(&self, name: &str) -> u64 {
        let mut socket = std::net::TcpStream::connect(self.metrics).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let mut lines = answer.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("handover_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {answer}"))
            .parse()
            .unwrap()
    }

    pub fn kill(mut self) {
        put_down(&mut self.child);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        put_down(&mut self.child);
    }
}
