//! Whole transfers, disk to disk, between two peers in this process: over memory, TCP and QUIC.
//!
//! `HANDOVER_BENCH_DIR` sets the folder for files (a tmpfs excludes the disk); the default is the system's folder for
//! temporary files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover::{Config, UnifiedP2PManager};
use handover_core::Keypair;
use handover_core::engine::{AcceptTerms, DownloadOutcome, Event, OnConflict, PathKind};
use handover_transports::memory::{LinkProfile, Route, Switchboard};
use tempfile::TempDir;

const SIZE: usize = 64 << 20;

fn folder() -> TempDir {
    match std::env::var_os("HANDOVER_BENCH_DIR") {
        Some(dir) => TempDir::new_in(dir),
        None => TempDir::new(),
    }
    .expect("a folder for the benchmark's files")
}

/// Two running peers, and the file to transfer.
struct Pair {
    sharer: UnifiedP2PManager,
    receiver: UnifiedP2PManager,
    events: tokio::sync::mpsc::Receiver<Event>,
    source: PathBuf,
    folder: TempDir,
}

impl Pair {
    async fn new(transport: &str) -> Self {
        let folder = folder();
        let source = folder.path().join("source.bin");
        std::fs::write(&source, vec![7; SIZE]).expect("a file to send");
        let config = |name: &str| Config {
            data_dir: folder.path().join(name),
            loopback: true,
            tcp: transport == "TCP",
            quic: transport == "QUIC",
            ..Config::default()
        };
        let (mut sharer, mut receiver) = if transport == "memory" {
            let profile = LinkProfile::INSTANT;
            let path = PathKind::Loopback;
            let board = Switchboard::new(1, Route { profile, path });
            let peer = |byte, name| {
                let keys = Keypair::ed25519_from_bytes([byte; 32]).expect("32 bytes are a key");
                let transport = board.join(keys.public().to_peer_id());
                UnifiedP2PManager::over(Box::new(transport), keys, config(name))
            };
            (peer(1, "sharer"), peer(2, "receiver"))
        } else {
            let peer = |name| UnifiedP2PManager::new(config(name)).expect("a peer");
            (peer("sharer"), peer("receiver"))
        };
        sharer.start().await.expect("a fresh peer starts");
        receiver.start().await.expect("a fresh peer starts");
        let mut ignored = sharer.events().expect("events, once");
        tokio::spawn(async move { while ignored.recv().await.is_some() {} });
        let events = receiver.events().expect("events, once");
        Self {
            sharer,
            receiver,
            events,
            source,
            folder,
        }
    }

    /// Shares the file anew and fetches it. Returns the time from creating the share to the last file's publishing.
    async fn transfer(&mut self) -> Duration {
        let target = TempDir::new_in(self.folder.path()).expect("a folder to receive into");
        let started = Instant::now();
        let paths = vec![self.source.clone()];
        let share = self
            .sharer
            .start_sharing("bench", "", paths, "")
            .await
            .expect("a share");
        self.fetch(&share.encode(), target.path()).await;
        let took = started.elapsed();
        self.sharer
            .stop_sharing(share.share)
            .await
            .expect("a running peer");
        took
    }

    async fn fetch(&mut self, code: &str, target: &Path) {
        let id = self
            .receiver
            .start_receiving(code, target, "")
            .await
            .expect("a download");
        while let Some(event) = self.events.recv().await {
            match event {
                Event::Offer { .. } => {
                    let terms = AcceptTerms {
                        select: None,
                        on_conflict: OnConflict::Skip,
                        executables: false,
                    };
                    self.receiver
                        .accept(id, terms)
                        .await
                        .expect("a running peer");
                }
                Event::DownloadEnded { outcome, .. } => {
                    assert!(
                        matches!(outcome, DownloadOutcome::Completed(_)),
                        "{outcome:?}"
                    );
                    return;
                }
                _ => {}
            }
        }
    }
}

fn throughput(c: &mut Criterion) {
    let mut group = c.benchmark_group("end to end, 64 MiB");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.sample_size(10);
    for transport in ["memory", "TCP", "QUIC"] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()
            .expect("a runtime");
        let mut pair = runtime.block_on(Pair::new(transport));
        group.bench_function(transport, |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..times {
                        total += pair.transfer().await;
                    }
                    total
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
