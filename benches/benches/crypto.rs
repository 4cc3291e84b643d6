//! The work done on every byte: hashing, sealing, opening. The two AES-256-GCM implementations are compared; the faster
//! one is core's default.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use handover_core::aead::{aws_lc, rust_crypto};
use handover_core::bounded::Bounded;
use handover_core::frame::{self, LinkKeys};
use handover_core::limits::GROUP;
use handover_core::merkle::{self, GroupTree, RangeHash};
use handover_core::message::{Message, Served};

fn merkle_trees(c: &mut Criterion) {
    let bytes = vec![7; GROUP as usize];
    let mut group = c.benchmark_group("merkle");
    group.throughput(Throughput::Bytes(u64::from(GROUP)));
    group.bench_function("hash a group", |b| {
        b.iter(|| merkle::hash_group(black_box(&bytes)))
    });

    // For a file of 4 GiB, the proof of one group consists of fourteen hashes.
    let size = 4 << 30;
    let groups = size / u64::from(GROUP);
    let mut tree = GroupTree::new(size);
    let range = RangeHash::of(&bytes);
    for group in 0..groups {
        tree.insert(group, range.node());
    }
    let root = tree.root().expect("all groups are there");
    group.throughput(Throughput::Elements(1));
    group.bench_function("prove a group of 4 GiB", |b| {
        b.iter(|| tree.proof(black_box(groups / 3)))
    });
    let proof = tree.proof(groups / 3).expect("all groups are there");
    let offset = groups / 3 * u64::from(GROUP);
    group.bench_function("verify a hashed group of 4 GiB", |b| {
        b.iter(|| merkle::verify_range(&root, size, offset, black_box(&range), &proof));
    });
    group.finish();
}

fn ciphers(c: &mut Criterion) {
    let mut group = c.benchmark_group("aes-256-gcm");
    for size in [4 * 1024, 64 * 1024, 256 * 1024_usize] {
        group.throughput(Throughput::Bytes(size as u64));
        let mut text = vec![7; size];
        let aws = aws_lc::AeadKey::new([1; 32]);
        group.bench_with_input(BenchmarkId::new("seal, aws-lc-rs", size), &size, |b, _| {
            b.iter(|| aws.seal_in_place(0, black_box(&mut text)));
        });
        let rust = rust_crypto::AeadKey::new([1; 32]);
        group.bench_with_input(BenchmarkId::new("seal, aes-gcm", size), &size, |b, _| {
            b.iter(|| rust.seal_in_place(0, black_box(&mut text)));
        });
        let mut sealed = vec![7; size];
        let tag = aws.seal_in_place(0, &mut sealed).expect("the key is fresh");
        sealed.extend_from_slice(&tag);
        group.bench_with_input(BenchmarkId::new("open, aws-lc-rs", size), &size, |b, _| {
            b.iter_batched_ref(
                || sealed.clone(),
                |sealed| aws.open_in_place(0, sealed),
                BatchSize::LargeInput,
            );
        });
        group.bench_with_input(BenchmarkId::new("open, aes-gcm", size), &size, |b, _| {
            b.iter_batched_ref(
                || sealed.clone(),
                |sealed| rust.open_in_place(0, sealed),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn frames(c: &mut Criterion) {
    let keys = LinkKeys::new([1; 32], [1; 32]);
    let payload = vec![7; GROUP as usize];
    let segments: Bounded<_, 256> = vec![Served::Bytes {
        len: GROUP,
        proof: None,
    }]
    .into();
    let message = Message::Data {
        id: 1,
        segments,
        roots: None,
    };
    let sealed = frame::seal(&keys.send, 0, &message, &payload).expect("the key is fresh");
    let mut group = c.benchmark_group("frame of 256 KiB");
    group.throughput(Throughput::Bytes(u64::from(GROUP)));
    group.bench_function("seal", |b| {
        b.iter(|| frame::seal(&keys.send, 0, &message, black_box(&payload)))
    });
    group.bench_function("open and hash", |b| {
        b.iter_batched(
            || BytesMut::from(&sealed[4..]),
            |body| frame::open(&keys.receive, 0, body),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, merkle_trees, ciphers, frames);
criterion_main!(benches);
