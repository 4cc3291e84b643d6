//! Rate limits of processes on loopback. Measurements are printed; only what noise cannot affect is asserted: that no
//! rate exceeds its limit, and that everything arrives. `HANDOVER_LIMITS_SECONDS` sets the duration.

#![allow(clippy::print_stdout, reason = "what was measured is to be seen")]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use handover::disk::DownloadTarget;
use handover::{FetchRequest, UnifiedP2PManager};
use handover_core::code::ShareCode;
use handover_core::engine::{DownloadId, Limited};
use support::{Process, Scene, noise, peer, tree};

/// The rate limit, in bytes a second.
const RATE: u64 = 4_000_000;

fn seconds() -> u64 {
    let seconds = std::env::var("HANDOVER_LIMITS_SECONDS");
    seconds.map_or(3, |seconds| seconds.parse().unwrap())
}

/// Asserts that the limit was kept: at most 10 % over it, plus one second's worth as a burst.
fn judge(what: &str, bytes: u64, elapsed: Duration, transferring: Duration) {
    let per_second = |time: Duration| u128::from(bytes) * 1000 / time.as_millis().max(1);
    let rate = per_second(transferring);
    let off = (rate * 1000 / u128::from(RATE)).abs_diff(1000);
    println!(
        "{what}: {bytes} bytes in {transferring:?}, {rate} a second, {}.{} % off",
        off / 10,
        off % 10
    );
    let most = u128::from(RATE) * elapsed.as_millis() * 11 / 10_000 + u128::from(RATE);
    assert!(
        u128::from(bytes) <= most,
        "{what}: {bytes} bytes in {elapsed:?} are more than {RATE} a second"
    );
}

/// Transfers a file of `size` bytes to `receivers` receivers at once, with these options on each side.
fn hand_over(what: &str, size: u64, receivers: usize, send: &[&str], get: &[&str]) {
    let scene = Scene::new();
    scene.file("sent/file", &noise(usize::try_from(size).unwrap(), 1));
    let sender = scene.send(&[&scene.path("sent")], send);
    let began = Instant::now();
    let names: Vec<_> = (0..receivers).map(|at| format!("to {at}")).collect();
    let processes = names
        .iter()
        .map(|to| Process::start(scene.get(&sender.code, to, get)));
    let processes: Vec<_> = processes.collect();
    let took = processes.into_iter().map(|process| {
        let outcome = process.wait_for(Duration::from_mins(2)).expect(0);
        Duration::from_millis(outcome.event("download_ended")["took"].as_u64().unwrap())
    });
    let took = took.max().unwrap();
    judge(what, size * receivers as u64, began.elapsed(), took);
    for to in &names {
        assert_eq!(
            tree::read(&scene.path(to).join("sent")),
            tree::read(&scene.path("sent"))
        );
    }
}

#[test]
fn a_sender_sends_no_faster_than_it_may() {
    let size = RATE * seconds();
    hand_over("up, alone", size, 1, &["--limit-up", "4M"], &[]);
    hand_over(
        "up, four at once",
        size / 4,
        4,
        &["--limit-up", "32Mbit"],
        // If they seeded to each other, they would be faster.
        &["--no-seed"],
    );
}

#[test]
fn a_receiver_fetches_no_faster_than_it_may() {
    hand_over(
        "down, alone",
        RATE * seconds(),
        1,
        &[],
        &["--limit-down", "4MB"],
    );
}

/// One peer, with one limit for all its downloads.
#[test]
fn four_downloads_of_one_peer_keep_its_limit_together() {
    let scene = Scene::new();
    let size = RATE * seconds() / 4;
    scene.file("sent/file", &noise(usize::try_from(size).unwrap(), 2));
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let folders: Vec<_> = (0..4).map(|at| scene.path(&format!("to {at}"))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let began = Instant::now();
    let took = runtime.block_on(fetch_all(scene.path("receiver"), &sender.code, &folders));
    judge("down, four at once", size * 4, began.elapsed(), took);
    for folder in folders {
        assert_eq!(
            tree::read(&folder.join("sent")),
            tree::read(&scene.path("sent"))
        );
    }
}

/// Fetches into all folders at once. Returns how long the longest download took.
async fn fetch_all(data_dir: PathBuf, code: &str, folders: &[PathBuf]) -> Duration {
    let config = peer::config(data_dir);
    let options = config.fetch_options();
    let mut manager = UnifiedP2PManager::new(config).unwrap();
    manager.start().await.unwrap();
    let mut events = manager.events().unwrap();
    manager.set_limit(Limited::Down, Some(RATE)).await.unwrap();
    let mut running: BTreeSet<DownloadId> = BTreeSet::new();
    for folder in folders {
        let request = FetchRequest {
            code: ShareCode::parse(code).unwrap(),
            target: DownloadTarget::Folder(folder.clone()),
            options: options.clone(),
        };
        running.insert(manager.fetch(request).await.unwrap());
    }
    let longest = peer::await_all(&manager, &mut events, running).await;
    manager.stop().await;
    longest
}

#[test]
fn limits_are_read_again_while_a_sender_runs() {
    let scene = Scene::new();
    let mut sender = scene.send(&[&scene.file("file", b"bytes")], &[]);
    scene.file("sender/config.toml", b"limit_up = \"1.5M\"\n");
    let limits = sender.await_event("limits");
    assert_eq!(limits["up"], 1_500_000);
    assert!(limits["down"].is_null());
    std::fs::remove_file(scene.path("sender/config.toml")).unwrap();
    assert!(sender.await_event("limits")["up"].is_null());
}
