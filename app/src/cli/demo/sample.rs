//! The folder that the demo hands over: small, with something of everything.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Texts in several scripts, by name.
const TEXTS: [(&str, &str); 6] = [
    ("english.txt", "Many hands make light work.\n"),
    ("ελληνικά.txt", "Η αρχή είναι το ήμισυ του παντός.\n"),
    ("русский.txt", "Дорогу осилит идущий.\n"),
    ("日本語.txt", "千里の道も一歩から。\n"),
    ("עברית.txt", "אם אין אני לי, מי לי.\n"),
    ("العربية.txt", "خير الكلام ما قل ودل.\n"),
];
/// Bytes of the one larger file; not a round number, so that its last leaf is a short one.
const PATTERN: usize = 5 * 1024 * 1024 + 321;
/// 2001-09-09, so that a kept modification time can be told from a new one.
const LONG_AGO: Duration = Duration::from_secs(1_000_000_000);

/// Makes it at `folder`.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    let texts = folder.join("texts");
    fs::create_dir_all(&texts)?;
    let empty = folder.join("empty folder");
    fs::create_dir(&empty)?;
    // The user's umask withholds the same bits from the files that arrive.
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

/// The same bytes at every run, with no short period.
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
