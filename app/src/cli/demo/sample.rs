//! The folder that the demo transfers: small, with one of each kind of entry.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Texts in several scripts: file name and content.
const TEXTS: [(&str, &str); 6] = [
    ("english.txt", "Many hands make light work.\n"),
    ("ελληνικά.txt", "Η αρχή είναι το ήμισυ του παντός.\n"),
    ("русский.txt", "Дорогу осилит идущий.\n"),
    ("日本語.txt", "千里の道も一歩から。\n"),
    ("עברית.txt", "אם אין אני לי, מי לי.\n"),
    ("العربية.txt", "خير الكلام ما قل ودل.\n"),
];
/// Size of the one larger file, in bytes. Not a multiple of the leaf size, so that the last leaf is a short one.
const PATTERN: usize = 5 * 1024 * 1024 + 321;
/// 2001-09-09 as time since the Unix epoch, so that a preserved modification time differs from a new one.
const LONG_AGO: Duration = Duration::from_secs(1_000_000_000);

/// Creates the sample at `folder`.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    let texts = folder.join("texts");
    fs::create_dir_all(&texts)?;
    let empty = folder.join("empty folder");
    fs::create_dir(&empty)?;
    // The umask removes the same permission bits from received files.
    let given = fs::metadata(&empty)?.permissions().mode();
    for (name, text) in TEXTS {
        write(&texts.join(name), text.as_bytes(), 0o644 & given)?;
    }
    write(&folder.join("empty file"), b"", 0o600 & given)?;
    write(&folder.join("pattern.bin"), &pattern(), 0o640 & given)?;
    write(
        &folder.join("hello.sh"),
        b"#!/bin/sh\necho hello\n",
        0o755 & given,
    )?;
    symlink("texts/english.txt", folder.join("link"))?;
    for touched in [&texts, folder] {
        File::open(touched)?.set_modified(SystemTime::UNIX_EPOCH + LONG_AGO)?;
    }
    Ok(())
}

/// Generates the same bytes in every run, without a short period.
fn pattern() -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(next).take(PATTERN).collect()
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH + LONG_AGO)
}
