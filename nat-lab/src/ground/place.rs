//! One container: commands in its network, programs in it, and its files.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use testcontainers::{ContainerAsync, GenericImage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::{GroundError, image};

/// Maximum number of bytes kept of a program's standard error.
const MOST_WORDS: usize = 4 << 20;

/// A container. Removed when dropped.
pub struct Place {
    name: String,
    pid: i32,
    _container: ContainerAsync<GenericImage>,
}

impl Place {
    pub(super) fn new(name: String, pid: i32, container: ContainerAsync<GenericImage>) -> Self {
        Self {
            name,
            pid,
            _container: container,
        }
    }

    /// Returns its name in the topology.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the ID of its first process, as seen on this machine.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the path of one of its files, as seen on this machine.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Runs a shell script with the machine's programs in the container's network. Stops at the first command that
    /// fails.
    pub(super) async fn shell(&self, doing: &str, script: &str) -> Result<(), GroundError> {
        self.feed(doing, &["sh", "-e"], script).await
    }

    /// Loads packet filter rules.
    pub(super) async fn rules(&self, rules: &str) -> Result<(), GroundError> {
        self.feed("nft", &["nft", "-f", "-"], rules).await
    }

    async fn feed(&self, doing: &str, command: &[&str], input: &str) -> Result<(), GroundError> {
        let failed = |output: String| GroundError::Command {
            doing: doing.to_owned(),
            place: self.name.clone(),
            output,
        };
        let mut child = Command::new("nsenter")
            .args([&format!("--target={}", self.pid), "--net", "--"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A write fails if the command has already ended. Its standard error then gives the reason.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(failed(words.trim().to_owned()))
    }

    /// Returns the command prefix that runs a program of the container from this machine.
    pub fn enter(&self) -> [String; 8] {
        let target = format!("--target={}", self.pid);
        let words = [
            "nsenter", &target, "--mount", "--uts", "--ipc", "--net", "--pid", "--",
        ];
        words.map(str::to_owned)
    }

    /// Starts a program of the container. It ends when the [`Process`] is dropped.
    ///
    /// # Errors
    ///
    /// The program can't be started.
    pub fn start(
        &self,
        program: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process, GroundError> {
        let [enter, options @ ..] = &self.enter();
        let mut command = Command::new(enter);
        command.args(options);
        command.args([image::LAB, "attend"]).args(program);
        command
            .env_clear()
            .envs([("HOME", "/tmp"), ("PATH", "/bin")]);
        command.envs(environment.iter().copied());
        Process::start(command, &self.name)
    }

    /// Starts a program of the machine in the container's network. It ends when the [`Process`] is dropped.
    ///
    /// # Errors
    ///
    /// The program can't be started.
    pub fn start_outside(&self, program: &[&str]) -> Result<Process, GroundError> {
        let own = std::env::current_exe().map_err(|error| GroundError::File {
            path: "this program".into(),
            error,
        })?;
        let mut command = Command::new(own);
        command.args(["attend", "nsenter"]);
        command.args([&format!("--target={}", self.pid), "--net", "--"]);
        command.args(program);
        // Ctrl-C must reach only the lab. It would end `attend` as well, which would leave the program running.
        command.process_group(0);
        Process::start(command, &self.name)
    }
}

/// A program that runs for as long as this is kept.
pub struct Process {
    child: Child,
    held: Option<ChildStdin>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    words: JoinHandle<String>,
}

impl Process {
    fn start(mut command: Command, place: &str) -> Result<Self, GroundError> {
        let failed = |error: std::io::Error| GroundError::Command {
            doing: "starting a program".into(),
            place: place.to_owned(),
            output: error.to_string(),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let stderr = child.stderr.take();
        let words = tokio::spawn(async move {
            let mut words = Vec::new();
            if let Some(stderr) = stderr {
                let mut kept = stderr.take(MOST_WORDS as u64);
                let _ = kept.read_to_end(&mut words).await;
                let _ = tokio::io::copy(&mut kept.into_inner(), &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&words).into_owned()
        });
        Ok(Self {
            held: child.stdin.take(),
            child,
            lines,
            words,
        })
    }

    /// Returns the next line of standard output and the time it was read, or `None` at the end. Cancel safe.
    pub async fn line(&mut self) -> Option<(Instant, String)> {
        let line = self.lines.as_mut()?.next_line().await.ok()??;
        Some((Instant::now(), line))
    }

    /// Ends the program by closing its standard input. Returns its exit code, if any, and its standard error.
    pub async fn end(mut self) -> (Option<i32>, String) {
        drop(self.held.take());
        // The rest of standard output is not read. It must not block the program.
        drop(self.lines.take());
        let code = self.child.wait().await.ok().and_then(|exit| exit.code());
        (code, self.words.await.unwrap_or_default())
    }
}
