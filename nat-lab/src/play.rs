//! Plays a scenario: builds its network, verifies its NATs, runs the transfer, moves hosts meanwhile, and saves logs
//! and packet captures.

use std::path::Path as FilePath;
use std::time::Duration;

use crate::ground::{self, Engine, Ground, GroundError, Process};
use crate::scenario::{Path, Scenario};
use crate::transfer::Outcome;
use crate::verify::{Proof, VerifyError, verify};

/// The result of a scenario.
#[derive(Debug)]
pub struct Played {
    /// What the probe found in front of each host.
    pub proofs: Vec<(String, Proof)>,
    /// The result of each run.
    pub outcomes: Vec<Outcome>,
    /// Expectations that were not met, with the number of the run.
    pub disappointments: Vec<String>,
    /// Why no packets were captured, if so.
    pub no_captures: Option<&'static str>,
}

/// Progress of a scenario.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The network is being built.
    Building,
    /// A host's place behaves as it claims.
    Proved(&'a str, Proof),
    /// A run begins. The first one is 1.
    Begins(u32),
    /// An event of the receiver, and the milliseconds since its start.
    Told(u64, &'a serde_json::Value),
    /// A host has moved.
    Moved(&'a str),
}

/// Plays the scenario `repeats` times. Logs and captures go to `keep`.
///
/// # Errors
///
/// The network can't be built, or a NAT behaves differently from its claim.
pub async fn play(
    engine: &Engine,
    scenario: &Scenario,
    repeats: u32,
    keep: &FilePath,
    tell: &mut impl FnMut(Progress<'_>),
) -> Result<Played, VerifyError> {
    let mut played = Played {
        proofs: Vec::new(),
        outcomes: Vec::new(),
        disappointments: Vec::new(),
        no_captures: None,
    };
    for number in 1..=repeats {
        tell(Progress::Building);
        let world = scenario.nodes.world()?;
        let seed = u64::from(number);
        let ground = Ground::build(engine, &scenario.topology, &world, seed).await?;
        if number == 1 {
            for host in scenario.topology.hosts.keys() {
                let proof = verify(&ground, host).await?;
                tell(Progress::Proved(host, proof));
                played.proofs.push((host.clone(), proof));
            }
        }
        tell(Progress::Begins(number));
        let folder = keep.join(number.to_string());
        make_folder(&folder)?;
        let captures = capture(&ground, scenario, &folder);
        played.no_captures = captures.as_ref().err().copied();
        let outcome = run(&ground, scenario, number, tell).await?;
        for capture in captures.unwrap_or_default() {
            capture.end().await;
        }
        ground.remove().await?;
        let path = folder.join("log.txt");
        std::fs::write(&path, outcome.in_words())
            .map_err(|error| GroundError::File { path, error })?;
        let missed = missed(scenario, &outcome);
        let missed = missed
            .into_iter()
            .map(|what| format!("run {number}: {what}"));
        played.disappointments.extend(missed);
        played.outcomes.push(outcome);
    }
    Ok(played)
}

/// Runs the transfer and moves hosts meanwhile.
async fn run(
    ground: &Ground,
    scenario: &Scenario,
    number: u32,
    tell: &mut impl FnMut(Progress<'_>),
) -> Result<Outcome, VerifyError> {
    let transfer = scenario.transfer();
    let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
    let mut moves = scenario.moves.clone();
    moves.sort_by_key(|moved| moved.after);
    let began = told.clone();
    let transfer = transfer.run(ground, u64::from(number), move |after, event| {
        let _ = began.send((after, event.clone()));
    });
    let mut transfer = std::pin::pin!(transfer);
    // When the receiver started, derived from its first event.
    let mut start = None;
    loop {
        let next = moves.first().zip(start);
        let due = next.map(|(moved, start)| start + Duration::from_millis(moved.after));
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = &mut transfer => {
                while let Ok((after, event)) = telling.try_recv() {
                    tell(Progress::Told(after, &event));
                }
                return Ok(outcome?);
            }
            Some((after, event)) = telling.recv() => {
                start.get_or_insert_with(|| {
                    tokio::time::Instant::now() - Duration::from_millis(after)
                });
                tell(Progress::Told(after, &event));
            }
            () = wait => {
                let next = moves.remove(0);
                ground.move_host(&next.host, next.behind.as_deref()).await?;
                tell(Progress::Moved(&next.host));
            }
        }
    }
}

/// Number of bytes kept of each packet: all headers, but little enough not to fill a disk.
const SNAPPED: &str = "160";

/// Starts a packet capture on the `wan` interface of every host and gateway. The error says why that is impossible.
fn capture(
    ground: &Ground,
    scenario: &Scenario,
    folder: &FilePath,
) -> Result<Vec<Process>, &'static str> {
    const MISSING: &str = "there is no tcpdump here; Debian's package is tcpdump";
    if ground::find_program("tcpdump").is_none() {
        return Err(MISSING);
    }
    let names = scenario.topology.gateways.keys();
    let names = names.chain(scenario.topology.hosts.keys());
    let mut captures = Vec::new();
    for name in names {
        let file = folder.join(format!("{name}.pcap"));
        let file = std::path::absolute(&file).unwrap_or(file);
        let file = file.to_string_lossy();
        let program = [
            "tcpdump",
            "--immediate-mode",
            "-U",
            "-n",
            "-s",
            SNAPPED,
            "-i",
            "wan",
            "-w",
            &file,
            "-Z",
            "root",
        ];
        let place = ground.place(name).map_err(|_| MISSING)?;
        captures.push(place.start_outside(&program).map_err(|_| MISSING)?);
    }
    Ok(captures)
}

fn make_folder(folder: &FilePath) -> Result<(), GroundError> {
    std::fs::create_dir_all(folder).map_err(|error| GroundError::File {
        path: folder.to_owned(),
        error,
    })
}

/// Returns the expectations of a scenario that were not met.
fn missed(scenario: &Scenario, outcome: &Outcome) -> Vec<String> {
    let run = &outcome.run;
    let mut missed = Vec::new();
    if !run.complete {
        let why = run.error.as_deref().unwrap_or("without a reason");
        missed.push(format!("the file did not arrive: {why}"));
    }
    let paths = outcome.told.iter().filter_map(|(_, event)| {
        let is_link = event["event"] == "connected";
        is_link.then(|| event["path"] == "relayed")
    });
    let paths: Vec<Path> = paths
        .map(|relayed| if relayed { Path::Relayed } else { Path::Direct })
        .collect();
    for (wanted, found, when) in [
        (scenario.expect.first, paths.first(), "first"),
        (scenario.expect.path, paths.last(), "last"),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| found != Some(wanted)) {
            missed.push(format!(
                "the {when} path was to be {wanted:?}, and was {found:?}"
            ));
        }
    }
    missed
}
