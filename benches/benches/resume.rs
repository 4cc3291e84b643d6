//! The cost of resuming a download: reading and hashing what an earlier run wrote, compared with hashing alone.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover::disk::{Disk, DownloadTarget};
use handover_core::Keypair;
use handover_core::engine::{DiskDone, DiskWork, DownloadId, Origin, Piece};
use handover_core::limits::{GROUP, Limits};
use handover_core::manifest::{ManifestParts, SignedManifest};
use handover_core::merkle;

/// Number of groups per job: 16 MiB.
const GROUPS: u32 = 64;

/// A download that has staged one file.
fn staged(folder: &std::path::Path) -> (Disk, DownloadId) {
    let download = DownloadId(1);
    let disk = Disk::default();
    disk.register_download(download, DownloadTarget::Folder(folder.to_path_buf()));
    let keys = Keypair::ed25519_from_bytes([1; 32]).expect("a key");
    let signed = SignedManifest::sign(ManifestParts::default(), &keys, &Limits::default())
        .expect("an empty manifest");
    let origin = Origin {
        manifest: signed.id(),
        signer: signed.signer(),
    };
    let staged = disk.perform(DiskWork::Stage { download, origin });
    assert!(matches!(staged, DiskDone::Ok), "{staged:?}");
    let data = Bytes::from(vec![7; GROUP as usize]);
    let pieces = (0..u64::from(GROUPS)).map(|group| Piece {
        entry: 0,
        offset: group * u64::from(GROUP),
        data: data.clone(),
    });
    let pieces = pieces.collect();
    let written = disk.perform(DiskWork::Write { download, pieces });
    assert!(matches!(written, DiskDone::Ok), "{written:?}");
    (disk, download)
}

fn an_earlier_run(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, download) = staged(folder.path());
    let mut group = c.benchmark_group("what an earlier run wrote, 16 MiB in the page cache");
    group.throughput(Throughput::Bytes(u64::from(GROUPS) * u64::from(GROUP)));
    group.bench_function("read and hashed", |b| {
        b.iter(|| {
            let done = disk.perform(DiskWork::HashStaged {
                download,
                entry: 0,
                first: 0,
                count: GROUPS,
            });
            assert!(
                matches!(&done, DiskDone::Hashed { hashes } if hashes.len() == GROUPS as usize)
            );
        });
    });
    let bytes = vec![7; GROUP as usize];
    group.bench_function("hashed alone", |b| {
        b.iter(|| {
            for _ in 0..GROUPS {
                black_box(merkle::hash_group(black_box(&bytes)));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, an_earlier_run);
criterion_main!(benches);
