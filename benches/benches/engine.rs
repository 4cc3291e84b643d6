//! What the engine costs by itself: the simulator's scenarios, one after the other on one core.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover_harness::pace;

/// The scenarios that are run.
const SEEDS: std::ops::Range<u64> = 0..200;

fn engine(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulator");
    let total = pace(SEEDS);
    group.sample_size(10);
    // Two names for one thing: criterion says its throughput in one unit only.
    for (name, elements) in [
        ("scenarios", total.scenarios),
        ("engine events", total.events),
    ] {
        group.throughput(Throughput::Elements(elements));
        group.bench_function(name, |b| b.iter(|| pace(SEEDS)));
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
