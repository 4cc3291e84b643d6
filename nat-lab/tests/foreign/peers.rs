//! Foreign nodes and handover peers: programs that run for as long as they are kept.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use handover_nat_lab::foreign::{Launch, Software, Store};
use serde_json::Value;
use tempfile::TempDir;

use super::room;

/// A running program and its output.
pub struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
    words: Option<JoinHandle<String>>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let words = std::thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.read_to_end(&mut words);
            String::from_utf8_lossy(&words).into_owned()
        });
        Self {
            child,
            lines,
            words: Some(words),
        }
    }

    /// Returns the next line, or `None` at the end of the output.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then_some(line)
    }

    /// Returns the next line. Panics with the program's standard error if there is none.
    fn line_before(&mut self, awaited: &str) -> String {
        self.line().unwrap_or_else(|| {
            let words = self.words.take().map(|words| words.join().unwrap());
            let words = words.unwrap_or_default();
            panic!("it ended before it told \"{awaited}\": {words}")
        })
    }

    /// Returns the next event with this name.
    pub fn event(&mut self, name: &str) -> Value {
        loop {
            let line = self.line_before(name);
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Kills the program and returns the events that were not read yet.
    pub fn kill(mut self) -> Ended {
        let _ = self.child.kill();
        self.end()
    }

    /// Waits until the program ends and returns the events that were not read yet.
    pub fn end(mut self) -> Ended {
        let mut events = Vec::new();
        while let Some(line) = self.line() {
            events.extend(serde_json::from_str::<Value>(&line).ok());
        }
        let status = self.child.wait().unwrap();
        let words = self.words.take().map(|words| words.join().unwrap());
        Ended {
            status,
            events,
            words: words.unwrap_or_default(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that has ended.
#[derive(Debug)]
#[expect(dead_code, reason = "what it said is shown when a test fails")]
pub struct Ended {
    pub status: ExitStatus,
    pub events: Vec<Value>,
    pub words: String,
}

impl Ended {
    #[track_caller]
    pub fn good(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    pub fn named(&self, name: &str) -> Vec<&Value> {
        let events = self.events.iter();
        events.filter(|event| event["event"] == name).collect()
    }
}

/// A foreign node with its own address.
pub struct Node {
    pub ip: Ipv4Addr,
    pub addresses: Vec<String>,
    pub id: String,
    _program: Option<Program>,
    _files: TempDir,
}

impl Node {
    pub fn start(software: Software) -> Self {
        Self::among(software, &[])
    }

    /// Starts a node that bootstraps from others.
    pub fn among(software: Software, others: &[&Self]) -> Self {
        static TAKEN: AtomicU8 = AtomicU8::new(1);
        room::make();
        let ip = room::address(TAKEN.fetch_add(1, Ordering::Relaxed));
        let store = Store::open().unwrap();
        let files = tempfile::tempdir().unwrap();
        let known = others.iter().flat_map(|other| other.addresses.clone());
        let known: Vec<String> = known.collect();
        let at = (IpAddr::V4(ip), 4001);
        let launch = Launch::new(software, &store, at, files.path(), &known);
        let (program, arguments) = launch.program().split_first().unwrap();
        let mut program = Program::start(Command::new(program).args(arguments));
        let mut ready = launch.ready();
        while !ready.is_up {
            let line = program.line_before("its addresses");
            ready.take(&line);
        }
        let id = ready.addresses[0].rsplit('/').next().unwrap().to_owned();
        Self {
            ip,
            addresses: ready.addresses,
            id,
            _program: Some(program),
            _files: files,
        }
    }

    /// Returns its TCP address.
    pub fn tcp(&self) -> &str {
        let mut all = self.addresses.iter();
        all.find(|address| address.contains("/tcp/")).unwrap()
    }
}

/// The folder of a transfer, and the options that both sides get.
pub struct Transfer {
    files: TempDir,
    options: Vec<String>,
    content: Vec<u8>,
}

impl Transfer {
    /// Creates a transfer that uses these bootstrap addresses.
    pub fn by<'a>(addresses: impl IntoIterator<Item = &'a str>, bytes: usize) -> Self {
        let files = tempfile::tempdir().unwrap();
        // A pattern in which no piece occurs twice.
        let content: Vec<u8> = (0..u64::try_from(bytes).unwrap().div_ceil(8))
            .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .take(bytes)
            .collect();
        std::fs::write(files.path().join("sent"), &content).unwrap();
        let mut options = vec!["--json".to_owned(), "--no-mdns".to_owned()];
        for address in addresses {
            options.extend(["--bootstrap".to_owned(), address.to_owned()]);
        }
        Self {
            files,
            options,
            content,
        }
    }

    pub fn with(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|it| (*it).to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn handover(&self, data: &str, action: &str) -> Command {
        let mut command = handover(&self.path(data));
        command.arg(action).args(&self.options);
        command
    }

    /// Starts a sharer with additional `options`. Returns it and its short code once it is announced.
    pub fn share_at(&self, options: &[&str]) -> (Program, String) {
        let mut command = self.handover("sender", "send");
        command.args(options);
        let mut sharer = Program::start(command.arg(self.path("sent")));
        let code = loop {
            let open = sharer.event("share_open");
            if let Some(short) = open["short"].as_str() {
                break short.to_owned();
            }
        };
        while sharer.event("announced")["reached"] != true {}
        (sharer, code)
    }

    /// Runs a receiver. Returns its events once the complete file has arrived.
    #[track_caller]
    pub fn fetch(&self, code: &str) -> Ended {
        let got = self.receiver(code).good();
        self.check();
        got
    }

    fn receiver(&self, code: &str) -> Ended {
        let mut command = self.handover("receiver", "get");
        command.args(["-vv", "--yes", "--to"]);
        command.arg(self.path("got"));
        Program::start(command.env("HANDOVER_CODE", code)).end()
    }

    #[track_caller]
    fn check(&self) {
        assert!(std::fs::read(self.path("got/sent")).unwrap() == self.content);
    }

    /// Runs both sides. If the transfer fails, the panic shows the events of both.
    #[track_caller]
    pub fn make(&self) -> Ended {
        let (sharer, code) = self.share_at(&["-vv"]);
        let got = self.receiver(&code);
        let is_good = got.status.success();
        assert!(is_good, "{got:#?}, and the sharer: {:#?}", sharer.kill());
        self.check();
        got
    }
}

/// Returns the program under test: the one next to the lab's, unless another one is named.
pub fn program() -> PathBuf {
    let named = std::env::var_os("HANDOVER_NAT_LAB_PROGRAM").map(PathBuf::from);
    named.unwrap_or_else(|| {
        Path::new(env!("CARGO_BIN_EXE_handover-nat-lab")).with_file_name("handover")
    })
}

/// Returns the command of the program under test, with its own data folder.
pub fn handover(data: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("--data-dir").arg(data);
    command
}
