//! `handover demo`: a node and two real peers, each in its own process on this computer. The peers share nothing but a
//! short code, find each other through the node and transfer a small folder. Then every byte and attribute of the copy
//! is compared with the original.

mod child;
mod compare;
mod sample;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use self::child::{Peer, Told};
use super::exit::Exit;
use super::failure::Failure;
use super::input::CODE_VARIABLE;
use super::interrupt::Interrupts;
use super::json;
use super::screen::{Screen, Tone, units};

/// Timeout for the whole demo.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Timeout for the last peer to exit or print a line after the other has exited.
const GOODBYE: Duration = Duration::from_secs(10);

/// Runs the demo.
pub(crate) async fn run(screen: &Screen, interrupts: &mut Interrupts) -> Result<Exit, Failure> {
    let folder = tempfile::tempdir().map_err(broken)?;
    tokio::select! {
        result = timeout(TIMEOUT, hand_over(screen, folder.path())) => {
            result.unwrap_or_else(|_| Err(stuck("it took longer than a minute")))
        }
        // Dropping the other future kills the peers; dropping `folder` deletes the files.
        () = interrupts.next() => Ok(Exit::Interrupted),
    }
}

async fn hand_over(screen: &Screen, folder: &Path) -> Result<Exit, Failure> {
    let [source, target] = ["sent", "received"].map(|name| folder.join(name));
    let shared = source.join("demo");
    sample::make(&shared).map_err(broken)?;
    screen.say(
        Tone::Plain,
        "Two peers on this computer find each other by a short code and hand over a small folder.\n",
    );

    let (_node, address) = node(screen, &folder.join("node")).await?;
    let identity = folder.join("sender");
    let mut sender = Peer::start(
        &[
            "send".as_ref(),
            shared.as_ref(),
            "--once".as_ref(),
            "--loopback".as_ref(),
            "--bootstrap".as_ref(),
            address.as_ref(),
            "--data-dir".as_ref(),
            identity.as_ref(),
        ],
        None,
    )?;
    let code = loop {
        match sender.told().await {
            Told::Data(line) => break line,
            Told::Screen(line) => show(screen, "send", &line),
            Told::Ended(_) => return Err(stuck("the sender ended before it had a code")),
        }
    };
    let identity = folder.join("receiver");
    let mut receiver = Peer::start(
        &[
            "get".as_ref(),
            "--to".as_ref(),
            target.as_ref(),
            "--yes".as_ref(),
            "--exec".as_ref(),
            "--loopback".as_ref(),
            "--bootstrap".as_ref(),
            address.as_ref(),
            "--data-dir".as_ref(),
            identity.as_ref(),
        ],
        Some((CODE_VARIABLE, &code)),
    )?;

    let mut running = 2;
    while running > 0 {
        let (name, told) = tokio::select! {
            told = sender.told(), if !sender.has_ended() => ("send", told),
            told = receiver.told(), if !receiver.has_ended() => ("get", told),
            // The remaining peer is waiting for the one that has exited.
            () = tokio::time::sleep(GOODBYE), if running == 1 => return Err(stuck("one of the peers did not end")),
        };
        match told {
            Told::Screen(line) => show(screen, name, &line),
            Told::Data(_) => {}
            Told::Ended(Some(0)) => running -= 1,
            Told::Ended(_) => return Err(stuck("one of the peers failed; see above")),
        }
    }
    verify(screen, &source, &target)
}

/// Starts a node for a network of this computer alone, and returns it with its address. Dropping the handle kills the
/// node.
async fn node(screen: &Screen, folder: &Path) -> Result<(Peer, String), Failure> {
    let arguments: [&OsStr; 6] = [
        "node".as_ref(),
        "--private".as_ref(),
        "--listen".as_ref(),
        "/ip4/127.0.0.1/tcp/0".as_ref(),
        "--data-dir".as_ref(),
        folder.as_ref(),
    ];
    let mut node = Peer::start(&arguments, None)?;
    loop {
        match node.told().await {
            Told::Data(address) => return Ok((node, address)),
            Told::Screen(line) => show(screen, "node", &line),
            Told::Ended(_) => return Err(stuck("the node ended before it had an address")),
        }
    }
}

fn verify(screen: &Screen, source: &Path, target: &Path) -> Result<Exit, Failure> {
    let same = compare::trees(source, target).map_err(broken)?;
    let same =
        same.map_err(|difference| stuck(&format!("what came is not what was sent: {difference}")))?;
    screen.event(&json::demo_finished(same.files, same.bytes));
    let amount = format!(
        "{}, {}",
        units::count(same.files, "file", "files"),
        units::size(same.bytes)
    );
    screen.say(
        Tone::Good,
        &format!("\n✓ {amount}: every byte, name, time and permission is the same on both sides"),
    );
    Ok(Exit::Done)
}

fn show(screen: &Screen, side: &str, line: &str) {
    screen.say(Tone::Plain, format!("[{side}] {line}").trim_end());
}

// By value, because `map_err` passes the error by value.
#[allow(clippy::needless_pass_by_value)]
fn broken(error: io::Error) -> Failure {
    Failure::internal(format!("the demo can't run: {error}"))
}

fn stuck(why: &str) -> Failure {
    Failure::new(
        Exit::Internal,
        format!("the demo failed: {why}"),
        "A firewall may keep programs on this computer from talking to each other; -v shows more.",
    )
}
