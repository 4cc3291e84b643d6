//! What the engine costs by itself: whole scenarios in virtual time, without sockets and disks.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover_harness::engine_events_per_second;

fn engine(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    let events = engine_events_per_second().events;
    group.throughput(Throughput::Elements(events));
    group.sample_size(20);
    group.bench_function("events of a scenario in memory", |b| {
        b.iter(engine_events_per_second)
    });
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
