//! Runs one transfer between two hosts by short code, with the programs of this build, and reads its result.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use crate::ground::{Ground, GroundError, HANDOVER, Place, Process};
use crate::results::{Carrier, Run};

/// A transfer to run.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// The sharer's host.
    pub from: String,
    /// The receiver's host.
    pub to: String,
    /// Size of the one file, in bytes.
    pub bytes: u64,
    /// The transports that both may connect over.
    pub carrier: Carrier,
    /// Which addresses of the nodes both are given, out of those that they may connect over.
    pub addresses: Carrier,
    /// Additional options for `send`.
    pub send: Vec<String>,
    /// Additional options for `get`.
    pub get: Vec<String>,
    /// Timeout for the receiver.
    pub patience: Duration,
}

/// The result of a transfer.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The measured values. `sharer` is left at 0.
    pub run: Run,
    /// The receiver's events, each with the milliseconds since the receiver started.
    pub told: Vec<(u64, Value)>,
    /// The sharer's events since the receiver started.
    pub sharer_told: Vec<Value>,
    /// The standard error of the sharer and of the receiver.
    pub logs: [String; 2],
}

impl Outcome {
    /// Returns all events and logs as readable text.
    pub fn in_words(&self) -> String {
        let told = self.told.iter();
        let told = told.map(|(after, event)| format!("{after:>7} ms  {event}"));
        let told = told.collect::<Vec<_>>().join("\n");
        let sharer = self.sharer_told.iter().map(Value::to_string);
        let sharer = sharer.collect::<Vec<_>>().join("\n");
        let [sharer_log, log] = &self.logs;
        format!(
            "{:#?}\n\n== what the receiver told\n{told}\n\n== what the sharer told after the receiver began\n{sharer}\n\n\
             == what the sharer logged\n{sharer_log}\n== what the receiver logged\n{log}",
            self.run
        )
    }
}

/// Timeout for a sharer to have a short code that others can find.
const ANNOUNCED: Duration = Duration::from_secs(30);

impl Transfer {
    /// Runs the transfer. `number` distinguishes transfers of one network. `meanwhile` gets every event of the receiver
    /// with the milliseconds since its start.
    ///
    /// # Errors
    ///
    /// The network fails. A failed transfer is an [`Outcome`].
    pub async fn run(
        &self,
        ground: &Ground,
        number: u64,
        mut meanwhile: impl FnMut(u64, &Value),
    ) -> Result<Outcome, GroundError> {
        let (from, to) = (ground.place(&self.from)?, ground.place(&self.to)?);
        let folder = format!("/tmp/t{number}");
        let sent = format!("{folder}/sent");
        make_folder(from, &folder)?;
        make_folder(to, &folder)?;
        let path = from.file(&sent);
        let written = write_noise(&path, self.bytes, number);
        written.map_err(|error| GroundError::File { path, error })?;
        let outcome = self.make(ground, [from, to], &folder, &mut meanwhile).await;
        let whole = is_noise(&to.file(&format!("{folder}/got/sent")), self.bytes, number);
        for place in [from, to] {
            let _ = std::fs::remove_dir_all(place.file(&folder));
        }
        let mut outcome = outcome?;
        outcome.run.complete &= whole;
        if !outcome.run.complete && outcome.run.error.is_none() {
            outcome.run.error = Some("the file is not what was sent".into());
        }
        Ok(outcome)
    }

    async fn make(
        &self,
        ground: &Ground,
        [from, to]: [&Place; 2],
        folder: &str,
        meanwhile: &mut impl FnMut(u64, &Value),
    ) -> Result<Outcome, GroundError> {
        let common = self.common(ground, folder);
        let mut send = vec![
            "send".to_owned(),
            format!("{folder}/sent"),
            "--once".to_owned(),
        ];
        send.extend(common.iter().chain(&self.send).cloned());
        let began_sharing = Instant::now();
        let mut sharer = start(from, &send, None)?;
        let announced = match tokio::time::timeout(ANNOUNCED, announced(&mut sharer)).await {
            Ok(Some(announced)) => announced,
            other => {
                let (code, words) = sharer.end().await;
                let why = if other.is_err() {
                    "in time"
                } else {
                    "before it ended"
                };
                let error = format!("the sharer had no code {why} ({code:?}): {}", words.trim());
                return Ok(failed(error, [words, String::new()]));
            }
        };
        let mut get = vec!["get".to_owned(), "--yes".to_owned()];
        get.extend(["--to".to_owned(), format!("{folder}/got")]);
        get.extend(common.iter().chain(&self.get).cloned());
        let began = Instant::now();
        let mut receiver = start(to, &get, Some(&announced.code))?;
        let mut told = Vec::new();
        let mut sharer_told = Vec::new();
        let watched = async {
            let mut sharer_ended = false;
            loop {
                tokio::select! {
                    line = receiver.line() => match line {
                        Some((at, line)) => {
                            let after = millis(at.saturating_duration_since(began));
                            if let Ok(event) = serde_json::from_str(&line) {
                                meanwhile(after, &event);
                                told.push((after, event));
                            }
                        }
                        None => break,
                    },
                    line = sharer.line(), if !sharer_ended => match line {
                        Some((_, line)) => sharer_told.extend(serde_json::from_str(&line).ok()),
                        None => sharer_ended = true,
                    },
                }
            }
        };
        let in_time = tokio::time::timeout(self.patience, watched).await.is_ok();
        let took = millis(began.elapsed());
        let (exit, words) = receiver.end().await;
        let (_, sharer_words) = sharer.end().await;
        let mut run = read(&told, took);
        let since = |at: Instant| Some(millis(at.saturating_duration_since(began_sharing)));
        run.code = since(announced.told);
        run.announced = since(announced.at);
        run.relays = relays(ground, &told, &words);
        run.complete = exit == Some(0);
        if !run.complete {
            let late = format!("not done after {} s", self.patience.as_secs());
            let failure = failure(&told).unwrap_or_else(|| last_line(&words));
            run.error = Some(if in_time { failure } else { late });
        }
        Ok(Outcome {
            run,
            told,
            sharer_told,
            logs: [sharer_words, words],
        })
    }

    /// Returns the options that both sides get.
    fn common(&self, ground: &Ground, folder: &str) -> Vec<String> {
        let mut options: Vec<String> = ["--json", "--no-mdns", "--data-dir"]
            .map(String::from)
            .into();
        options.push(format!("{folder}/data"));
        let over = match self.carrier {
            Carrier::Tcp => "tcp",
            Carrier::Quic => "quic",
            Carrier::Both => "tcp,quic",
        };
        options.extend(["--transport".to_owned(), over.to_owned()]);
        let is = |carrier: Carrier, address: &str| match carrier {
            Carrier::Tcp => !address.contains("/quic"),
            Carrier::Quic => address.contains("/quic"),
            Carrier::Both => true,
        };
        let may = |address: &&String| is(self.carrier, address) && is(self.addresses, address);
        let addresses = ground.nodes().iter().flat_map(|node| &node.addresses);
        for address in addresses.filter(may) {
            options.extend(["--bootstrap".to_owned(), address.clone()]);
        }
        options
    }
}

fn start(place: &Place, arguments: &[String], code: Option<&str>) -> Result<Process, GroundError> {
    let program: Vec<&str> = std::iter::once(HANDOVER)
        .chain(arguments.iter().map(String::as_str))
        .collect();
    let environment: Vec<_> = code
        .map(|code| ("HANDOVER_CODE", code))
        .into_iter()
        .collect();
    place.start(&program, &environment)
}

/// A short code that others can find.
struct Announced {
    code: String,
    /// When the sharer first reported it.
    told: Instant,
    /// When it was announced to nodes of the DHT.
    at: Instant,
}

/// Returns the short code once it is announced to nodes of the DHT.
async fn announced(sharer: &mut Process) -> Option<Announced> {
    let mut short: Option<(String, Instant)> = None;
    loop {
        let (at, line) = sharer.line().await?;
        let event: Value = serde_json::from_str(&line).ok()?;
        match (event["event"].as_str()?, short.take()) {
            ("announced", Some((code, told))) if event["reached"] == true => {
                return Some(Announced { code, told, at });
            }
            ("share_open", before) => {
                let told = before.as_ref().map_or(at, |(_, told)| *told);
                let code = event["short"].as_str().map(|code| (code.to_owned(), told));
                short = code.or(before);
            }
            (_, before) => short = before,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Derives the measured values from the receiver's events.
fn read(told: &[(u64, Value)], took: u64) -> Run {
    let linked = told.iter().filter_map(|(after, event)| {
        let is_link = event["event"] == "connected";
        is_link.then(|| (*after, event["path"].as_str().unwrap_or_default()))
    });
    let linked: Vec<(u64, &str)> = linked.collect();
    let first = linked.first();
    let relayed = linked.iter().find(|(_, path)| *path == "relayed");
    let direct = linked.iter().find(|(_, path)| *path != "relayed");
    let first_byte = told.iter().find(|(_, event)| {
        event["event"] == "progress" && event["done"].as_u64().is_some_and(|done| done > 0)
    });
    let upgrade = relayed.zip(direct);
    let upgrade = upgrade.and_then(|(relayed, direct)| direct.0.checked_sub(relayed.0));
    Run {
        sharer: 0,
        complete: false,
        code: None,
        announced: None,
        connected: first.map(|(after, _)| *after),
        relayed_first: first.is_some_and(|(_, path)| *path == "relayed"),
        direct: direct.map(|(after, _)| *after),
        upgrade,
        first_byte: first_byte.map(|(after, _)| *after),
        relays: Vec::new(),
        took,
        error: None,
    }
}

/// Returns the software of the relays that the receiver reported as used, and of those in circuit addresses in its log.
fn relays(ground: &Ground, told: &[(u64, Value)], log: &str) -> Vec<String> {
    let carried = told.iter().filter(|(_, event)| event["event"] == "carried");
    let carried: Vec<&str> = carried
        .filter_map(|(_, event)| event["relay"].as_str())
        .collect();
    let circuit = |id: &str| log.contains(&format!("/p2p/{id}/p2p-circuit"));
    let nodes = ground.nodes().iter();
    let used =
        nodes.filter(|node| carried.iter().any(|id| node.is(id)) || node.id().is_some_and(circuit));
    let mut names: Vec<String> = used.map(|node| node.name().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the reason that the receiver gave for its failure.
fn failure(told: &[(u64, Value)]) -> Option<String> {
    let mut events = told.iter().rev().map(|(_, event)| event);
    let failed =
        events.find(|event| event["event"] == "failed" || event["event"] == "download_ended")?;
    failed["message"].as_str().map(str::to_owned)
}

fn last_line(words: &str) -> String {
    let line = words.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it ended without a word").trim().to_owned()
}

fn failed(error: String, logs: [String; 2]) -> Outcome {
    Outcome {
        run: Run {
            error: Some(error),
            ..read(&[], 0)
        },
        told: Vec::new(),
        sharer_told: Vec::new(),
        logs,
    }
}

fn make_folder(place: &Place, folder: &str) -> Result<(), GroundError> {
    let path: PathBuf = place.file(folder);
    std::fs::create_dir_all(&path).map_err(|error| GroundError::File { path, error })
}

/// Number of bytes generated at a time.
const PIECE: usize = 1 << 16;

/// Generates the content of a file, piece by piece. It depends on `number` alone, and differs for every number.
fn noise(bytes: u64, number: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let mut left = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        left -= length as u64;
        let mut piece = vec![0; length];
        random.fill_bytes(&mut piece);
        (length > 0).then_some(piece)
    })
}

fn write_noise(path: &std::path::Path, bytes: u64, number: u64) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    noise(bytes, number).try_for_each(|piece| file.write_all(&piece))
}

/// True if a file has exactly that content.
fn is_noise(path: &std::path::Path, bytes: u64, number: u64) -> bool {
    use std::io::Read;
    let Ok(mut file) = std::fs::File::open(path) else {
        return false;
    };
    let same = noise(bytes, number).all(|piece| {
        let mut read = vec![0; piece.len()];
        file.read_exact(&mut read).is_ok() && read == piece
    });
    same && matches!(file.read(&mut [0]), Ok(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_receiver_tells_becomes_numbers() {
        let told = [
            (5, json!({ "event": "connecting" })),
            (900, json!({ "event": "connected", "path": "relayed" })),
            (1250, json!({ "event": "connected", "path": "direct" })),
        ];
        let run = read(&told, 4000);
        assert_eq!(run.connected, Some(900));
        assert!(run.relayed_first);
        assert_eq!(run.direct, Some(1250));
        assert_eq!(run.upgrade, Some(350));
    }

    #[test]
    fn who_is_direct_at_once_was_never_moved() {
        let run = read(&[(70, json!({ "event": "connected", "path": "lan" }))], 400);
        assert!(!run.relayed_first);
        assert_eq!((run.direct, run.upgrade), (Some(70), None));
    }

    #[test]
    fn a_file_with_one_byte_more_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sent");
        write_noise(&path, 100_000, 7).unwrap();
        assert!(is_noise(&path, 100_000, 7));
        assert!(!is_noise(&path, 100_000, 8));
        assert!(!is_noise(&path, 99_999, 7));
        assert!(!is_noise(&folder.path().join("none"), 100_000, 7));
    }
}
