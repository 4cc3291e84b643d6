//! Replays the fuzzer's corpus of messages from untrusted peers, plus random bytes.

#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;

use handover_transports::libp2p::decoders::read_all;
use proptest::prelude::*;

#[test]
fn strangers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/strangers");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a file of the corpus").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there is a corpus");
    for file in files {
        // Printed first, so that a panic shows the file.
        println!("{}", file.display());
        read_all(&fs::read(&file).expect("a file of the corpus"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_strangers_say_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
    }
}
