//! The cost of the engine alone: the simulator's scenarios, one after the other on one core.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover_harness::pace;

/// Seeds of the scenarios to run.
const SEEDS: std::ops::Range<u64> = 0..200;

fn engine(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulator");
    let total = pace(SEEDS);
    group.sample_size(10);
    // The same measurement twice: criterion reports its throughput in one unit only.
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
