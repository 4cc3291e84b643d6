//! Runs a command for as long as the other end of standard input stays open.
//!
//! Signals from outside do not reach a process in a container's namespaces. But when the lab ends, in whatever way, its
//! pipes close.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Interval between checks whether the command has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Runs a command until it ends or standard input closes. In the latter case the command gets SIGTERM, and is killed if
/// it does not end soon.
///
/// # Errors
///
/// The command can't be started.
pub fn attend(command: &[String]) -> io::Result<ExitStatus> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| io::Error::other("no command"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()?;
    let (held, let_go) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _held = held;
        let mut input = io::stdin().lock();
        let mut buffer = [0; 64];
        while matches!(input.read(&mut buffer), Ok(read) if read > 0) {}
    });
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match let_go.recv_timeout(LOOK) {
            Err(mpsc::RecvTimeoutError::Timeout) | Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return end(&mut child),
        }
    }
}

/// Sends SIGTERM to the command, and kills it if it does not end.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    const PATIENCE: u32 = 50;
    let pid = i32::try_from(child.id()).ok();
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    for _ in 0..PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
    child.kill()?;
    child.wait()
}
