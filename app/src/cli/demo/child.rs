//! A peer in a separate process.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;

use super::broken;
use crate::cli::failure::Failure;

/// Maximum number of lines waiting to be shown.
const LINES: usize = 64;
/// Maximum length of a line, in bytes. Longer lines are split.
const LINE: u64 = 64 * 1024;
/// Interval between checks for the exit of a process that has closed its outputs.
const LOOK: Duration = Duration::from_millis(20);

/// Output or exit of a peer.
#[derive(Debug)]
pub(super) enum Told {
    /// A line of its standard error, which is its screen.
    Screen(String),
    /// A line of its standard output.
    Data(String),
    /// The process has exited, with this exit code if it has one.
    Ended(Option<i32>),
}

/// A peer's process. Dropping the handle kills it.
pub(super) struct Peer {
    child: Child,
    lines: mpsc::Receiver<Told>,
    ended: bool,
}

impl Peer {
    /// Starts this program again as a child process.
    pub(super) fn start(
        arguments: &[&OsStr],
        variable: Option<(&str, &str)>,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(broken)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_remove(super::CODE_VARIABLE)
            .env_remove("HANDOVER_BOOTSTRAP")
            .envs(variable)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(broken)?;
        let (told, lines) = mpsc::channel(LINES);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        pass_on(stdout, told.clone(), Told::Data);
        pass_on(stderr, told, Told::Screen);
        Ok(Self {
            child,
            lines,
            ended: false,
        })
    }

    /// True once the exit of the process has been observed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the next line or the exit. Dropping the future loses nothing.
    pub(super) async fn told(&mut self) -> Told {
        if let Some(told) = self.lines.recv().await {
            return told;
        }
        loop {
            match self.child.try_wait() {
                Ok(None) => tokio::time::sleep(LOOK).await,
                Ok(Some(status)) => {
                    self.ended = true;
                    return Told::Ended(status.code());
                }
                Err(_) => return Told::Ended(None),
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Forwards lines from a thread until either end is closed.
fn pass_on(
    output: Option<impl Read + Send + 'static>,
    told: mpsc::Sender<Told>,
    of: fn(String) -> Told,
) {
    let Some(output) = output else {
        return;
    };
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while let Ok(1..) = output.by_ref().take(LINE).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_string();
            line.clear();
            if told.blocking_send(of(text)).is_err() {
                return;
            }
        }
    });
}
