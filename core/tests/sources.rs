//! Constructs and dependencies that the project's sources must not contain.

// Tests of a pure crate may read files.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Row 32: assertions that release builds omit check nothing.
#[test]
fn no_check_is_compiled_out() {
    let mut files = Vec::new();
    for folder in ["core/src", "transports/src", "app/src"] {
        sources(&project().join(folder), &mut files);
    }
    assert!(files.len() > 50, "the sources are elsewhere");
    let words = [concat!("debug_assert", "!"), concat!("debug_assert", "_")];
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let found = words.iter().find(|word| text.contains(**word));
        assert_eq!(found, None, "{}", file.display());
    }
}

/// Row 16: nothing is compressed, so there are no decompression bombs. A change that adds compression must bound the
/// output by a declared size and remove the crate from this list.
#[test]
fn nothing_is_decompressed() {
    let lock = fs::read_to_string(project().join("Cargo.lock")).expect("the lock file");
    for name in [
        "flate2",
        "miniz_oxide",
        "zstd",
        "brotli",
        "lz4",
        "lz4_flex",
        "snap",
        "xz2",
        "bzip2",
        "zip",
    ] {
        assert!(
            !lock.contains(&format!("name = \"{name}\"\n")),
            "{name} is a dependency"
        );
    }
}
