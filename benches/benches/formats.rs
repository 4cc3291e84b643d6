//! Codes and manifests: they are read once per transfer, which must not be noticeable.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use handover_core::Keypair;
use handover_core::code::{LegacyCode, ShareCode, Ticket};
use handover_core::limits::Limits;
use handover_core::manifest::{Entry, EntryKind, ManifestParts, SignedManifest};
use handover_core::path::SafePath;
use handover_core::secret::{ShareCodeLabel, ShareSecret};
use handover_core::time::Timestamp;

fn keys() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key")
}

fn ticket() -> Ticket {
    let secret = ShareSecret::from_bytes([3; 32]);
    let addresses = ["/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.7/udp/4001/quic-v1"];
    Ticket {
        peer: keys().public().to_peer_id(),
        addresses: addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect(),
        share_code: ShareCodeLabel::of(&secret),
        secret,
    }
}

/// Ten thousand files in a hundred folders.
fn parts() -> ManifestParts {
    let modified = Timestamp::default();
    let mut entries = Vec::new();
    for folder in 0..100 {
        let name = format!("tree/folder-{folder:02}");
        let mode = 0o755;
        entries.push(Entry {
            path: SafePath::parse(&name).expect("a path"),
            kind: EntryKind::Folder { mode, modified },
        });
        for file in 0..100 {
            entries.push(Entry {
                path: SafePath::parse(&format!("{name}/file-{file:02}.bin")).expect("a path"),
                kind: EntryKind::File {
                    size: 4096,
                    mode: 0o644,
                    modified,
                },
            });
        }
    }
    ManifestParts {
        name: "tree".into(),
        entries,
        ..ManifestParts::default()
    }
}

fn codes(c: &mut Criterion) {
    let ticket = ticket();
    let text = ticket.encode();
    let legacy = LegacyCode::of(&ticket)
        .expect("an address to name")
        .encode();
    let mut group = c.benchmark_group("codes");
    group.bench_function("parse a ticket", |b| {
        b.iter(|| ShareCode::parse(black_box(&text)))
    });
    group.bench_function("parse a legacy code", |b| {
        b.iter(|| ShareCode::parse(black_box(&legacy)))
    });
    group.bench_function("encode a ticket", |b| {
        b.iter(|| black_box(&ticket).encode())
    });
    group.finish();
}

fn manifests(c: &mut Criterion) {
    let (keys, limits) = (keys(), Limits::default());
    let peer = keys.public().to_peer_id();
    let signed = SignedManifest::sign(parts(), &keys, &limits).expect("a manifest");
    let mut group = c.benchmark_group("manifest of 10,000 files");
    group.throughput(Throughput::Elements(10_000));
    group.sample_size(20);
    group.bench_function("encode and sign", |b| {
        b.iter_batched(
            parts,
            |parts| SignedManifest::sign(parts, &keys, &limits),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("decode and check", |b| {
        b.iter(|| SignedManifest::decode(signed.encoded().clone(), &peer, &limits));
    });
    group.finish();
}

criterion_group!(benches, codes, manifests);
criterion_main!(benches);
