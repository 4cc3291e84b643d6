//! Peak memory of both sides: with several large transfers at once in one process, and with very many small files. The
//! results are printed. `HANDOVER_MEMORY_MIB` sets the size of each large file, `HANDOVER_MEMORY_FILES` the number of
//! small ones.

#![allow(clippy::print_stdout, reason = "what was measured is to be seen")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use handover::disk::{DownloadTarget, ShareInput};
use handover::{FetchRequest, ShareRequest, UnifiedP2PManager};
use handover_core::code::ShareCode;
use handover_core::engine::ShareLabel;
use handover_test_needs::{Tests, tests};
use support::{Process, Scene, peer};

/// Maximum memory of either side, in bytes.
const MOST: u64 = 64 << 20;
/// Number of simultaneous transfers.
const AT_ONCE: usize = 5;
/// Environment variables for a process of this program: which side it is, and its folder.
const SIDE: &str = "HANDOVER_MEMORY_SIDE";
const FOLDER: &str = "HANDOVER_MEMORY_FOLDER";

fn main() -> ExitCode {
    if let Ok(side) = std::env::var(SIDE) {
        one_side(&side);
        return ExitCode::SUCCESS;
    }
    let tests = tests![
        five_large_transfers_at_once_stay_small_in_memory,
        many_small_files_stay_small_in_memory,
    ];
    Tests::default().needing(&[], tests).run()
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// A process's peak memory in bytes; `None` once it is gone.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

fn judge(what: &str, bytes: u64) {
    println!("{what}: {} MiB at the most", bytes >> 20);
    assert!(bytes <= MOST, "{what}: {bytes} bytes of memory");
}

/// Shares each file of a folder separately: prints the codes, and serves until standard input is closed.
async fn share_each(folder: &Path) {
    let config = peer::config(folder.join("sharer"));
    let options = config.share_options();
    let mut manager = UnifiedP2PManager::new(config).unwrap();
    manager.start().await.unwrap();
    let mut events = manager.events().unwrap();
    for at in 0..AT_ONCE {
        let request = ShareRequest {
            label: ShareLabel {
                name: at.to_string(),
                ..ShareLabel::default()
            },
            input: ShareInput::Paths(vec![folder.join(format!("sent/{at}"))]),
            options: options.clone(),
            secret: None,
        };
        let ticket = manager.share(request).await.unwrap().ticket;
        println!("code {}", ticket.encode());
    }
    let stdin = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    while !stdin.is_finished() {
        let _ = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
    }
    manager.stop().await;
}

/// Fetches with every code read from standard input, all at once.
async fn fetch_each(folder: &Path) {
    let config = peer::config(folder.join("receiver"));
    let options = config.fetch_options();
    let mut manager = UnifiedP2PManager::new(config).unwrap();
    manager.start().await.unwrap();
    let mut events = manager.events().unwrap();
    let mut running = BTreeSet::new();
    for (at, code) in std::io::stdin().lines().enumerate() {
        let request = FetchRequest {
            code: ShareCode::parse(&code.unwrap()).unwrap(),
            target: DownloadTarget::Folder(folder.join(format!("to {at}"))),
            options: options.clone(),
        };
        running.insert(manager.fetch(request).await.unwrap());
    }
    assert_eq!(running.len(), AT_ONCE);
    peer::await_all(&manager, &mut events, running).await;
    manager.stop().await;
}

/// The main function of a test's child process.
fn one_side(side: &str) {
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match side {
        "sharer" => runtime.block_on(share_each(&folder)),
        _ => runtime.block_on(fetch_each(&folder)),
    }
    println!("peak {}", peak(std::process::id()).unwrap());
}

/// A child process that is one of the sides. Dropping this kills it.
struct Side(Child);

impl Side {
    fn start(side: &str, folder: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .env(SIDE, side)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Reads the first `count` lines that start with `what`, and returns the rest of each.
    fn told(&mut self, what: &str, count: usize) -> Vec<String> {
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut told = Vec::new();
        // One byte at a time, so that no data meant for the next reader is consumed.
        let mut line = Vec::new();
        while told.len() < count {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "it ended");
            if byte != *b"\n" {
                line.extend(byte);
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
            if let Some(value) = text.strip_prefix(what) {
                told.push(value.to_string());
            }
        }
        told
    }

    /// Closes its standard input, and returns its peak memory once it is done.
    fn end(mut self) -> u64 {
        drop(self.0.stdin.take());
        self.told("peak ", 1)[0].parse().unwrap()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn five_large_transfers_at_once_stay_small_in_memory() {
    let scene = Scene::new();
    let size = setting("HANDOVER_MEMORY_MIB", 96) << 20;
    fs::create_dir_all(scene.path("sent")).unwrap();
    for at in 0..AT_ONCE {
        // Each has a different beginning, so that none is taken from another.
        let mut file = File::create(scene.path(&format!("sent/{at}"))).unwrap();
        file.write_all(&support::noise(1 << 20, u32::try_from(at).unwrap()))
            .unwrap();
        file.set_len(size).unwrap();
    }
    let mut sharer = Side::start("sharer", &scene.path(""));
    let codes = sharer.told("code ", AT_ONCE);
    let mut receiver = Side::start("receiver", &scene.path(""));
    let mut stdin = receiver.0.stdin.take().unwrap();
    writeln!(stdin, "{}", codes.join("\n")).unwrap();
    drop(stdin);
    let began = Instant::now();
    let receiver = receiver.end();
    println!(
        "{AT_ONCE} transfers of {} MiB in {:?}",
        size >> 20,
        began.elapsed()
    );
    let sharer = sharer.end();
    for at in 0..AT_ONCE {
        let fetched = fs::metadata(scene.path(&format!("to {at}/{at}"))).unwrap();
        assert_eq!(fetched.len(), size);
    }
    judge("the receiver of five", receiver);
    judge("the sharer of five", sharer);
}

fn many_small_files_stay_small_in_memory() {
    let scene = Scene::new();
    let files = setting("HANDOVER_MEMORY_FILES", 20_000);
    for at in 0..files {
        let folder = scene.path(&format!("sent/{}", at / 1000));
        if at % 1000 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        let text = format!("{at} ").repeat(40);
        fs::write(folder.join(format!("{at}.txt")), text).unwrap();
    }
    let sender = scene.send(&[&scene.path("sent")], &[]);
    let receiver = Process::start(scene.get(&sender.code, "to", &[]));
    let processes = [receiver.id(), sender.id()];
    let watch = std::thread::spawn(move || {
        let mut most = [0; 2];
        while let [Some(receiver), Some(sender)] = processes.map(peak) {
            most = [receiver.max(most[0]), sender.max(most[1])];
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    receiver.wait_for(Duration::from_mins(10)).expect(0);
    let [receiver, sender] = watch.join().unwrap();
    println!("{files} small files");
    judge("the receiver of many", receiver);
    judge("the sender of many", sender);
}
