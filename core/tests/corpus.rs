//! Replays the fuzzers' corpus, and runs the engine's fuzz target on random bytes.

// The corpus is in files, which tests of a pure crate may read.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a file of the corpus").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus for {target}");
    for file in files {
        let bytes = fs::read(&file).expect("a file of the corpus");
        // Printed first, so that a panic can be attributed to a file.
        println!("{}", file.display());
        body(&bytes);
    }
}

#[test]
fn codes() {
    replay("codes", bodies::codes);
}

#[test]
fn manifests() {
    replay("manifest", bodies::manifest);
}

#[test]
fn frames() {
    replay("frames", bodies::frames);
}

#[test]
fn engines() {
    replay("engine", bodies::engine);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Rows 18 and 19: whatever peers, disk, clock and user do, the engine neither panics nor loops.
    #[test]
    fn an_engine_survives_any_play(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        bodies::engine(&bytes);
    }
}
