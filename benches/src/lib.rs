//! Criterion benchmarks, in `benches/`: run them with `cargo bench -p handover-benches`.
