//! The rules for all manifests, ours and those of peers.

use super::{Entry, EntryKind, MAX_ENTRIES, MAX_LABEL, Manifest, ManifestError};
use crate::limits::Limits;
use crate::path::symlink_stays_inside;
use crate::time::Timestamp;

/// Permission bits that may be shared: read, write and execute, but not set-id or sticky.
const MODE_BITS: u32 = 0o777;

impl Manifest {
    /// Checks all rules. Decoding has already bounded the lists and checked each path on its own.
    pub(super) fn validate(&self, limits: &Limits) -> Result<(), ManifestError> {
        check_text("name", &self.name, MAX_LABEL)?;
        check_text("author", &self.author, MAX_LABEL)?;
        check_text("description", &self.description, limits.description_bytes)?;
        check_time(self.created)?;
        let entries = self.entries.len();
        let allowed = usize::try_from(limits.manifest_entries).unwrap_or(usize::MAX);
        let max = allowed.min(MAX_ENTRIES);
        if entries > max {
            return Err(ManifestError::TooManyEntries { entries, max });
        }
        let mut total = 0_u64;
        for entry in &self.entries {
            check_entry(entry, limits)?;
            let size = entry.size().unwrap_or(0);
            total = total.checked_add(size).ok_or(ManifestError::Overflow)?;
            if entry.kind == EntryKind::Stream && entries > 1 {
                return Err(ManifestError::StreamNotAlone);
            }
        }
        check_names(&self.entries)
    }
}

fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), ManifestError> {
    let bytes = text.len();
    if bytes > max {
        return Err(ManifestError::TextTooLong { what, bytes, max });
    }
    Ok(())
}

fn check_time(time: Timestamp) -> Result<(), ManifestError> {
    if time.nanos >= 1_000_000_000 {
        return Err(ManifestError::Time { nanos: time.nanos });
    }
    Ok(())
}

fn check_entry(entry: &Entry, limits: &Limits) -> Result<(), ManifestError> {
    let path = || entry.path.clone();
    entry
        .path
        .check_limits(limits)
        .map_err(|error| ManifestError::Path {
            path: path(),
            error,
        })?;
    match &entry.kind {
        EntryKind::File { mode, modified, .. } | EntryKind::Folder { mode, modified } => {
            if mode & !MODE_BITS != 0 {
                return Err(ManifestError::Mode {
                    path: path(),
                    mode: *mode,
                });
            }
            check_time(*modified)
        }
        EntryKind::Symlink { target } => {
            symlink_stays_inside(&entry.path, target).map_err(|error| ManifestError::Symlink {
                path: path(),
                error,
            })
        }
        EntryKind::Stream => Ok(()),
    }
}

/// Checks that the entries can coexist on every file system: no two with the same folded name, and none below a file,
/// symlink or stream. The latter keeps every folder of the share a real one, on which the symlink rules rely.
fn check_names(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut by_name: Vec<(String, &Entry)> = entries
        .iter()
        // No path contains NUL. It sorts before all other characters, so entries below another follow directly after it.
        .map(|entry| (entry.path.fold_key().replace('/', "\0"), entry))
        .collect();
    by_name.sort_by(|(a, _), (b, _)| a.cmp(b));
    for ((above_name, above), (below_name, below)) in by_name.iter().zip(by_name.iter().skip(1)) {
        match below_name.strip_prefix(above_name.as_str()) {
            Some("") => {
                return Err(ManifestError::SameName {
                    first: above.path.clone(),
                    second: below.path.clone(),
                });
            }
            Some(rest)
                if rest.starts_with('\0') && !matches!(above.kind, EntryKind::Folder { .. }) =>
            {
                return Err(ManifestError::BelowNoFolder {
                    above: above.path.clone(),
                    below: below.path.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use libp2p_identity::Keypair;
    use proptest::prelude::*;

    use super::super::{ManifestParts, SignedManifest};
    use super::*;
    use crate::path::{PathError, SafePath};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: SafePath::parse(path).unwrap(),
            kind,
        }
    }

    fn file(path: &str, size: u64, mode: u32) -> Entry {
        let modified = Timestamp::default();
        entry(
            path,
            EntryKind::File {
                size,
                mode,
                modified,
            },
        )
    }

    fn folder(path: &str) -> Entry {
        let modified = Timestamp::default();
        entry(path, EntryKind::Folder { mode: 0, modified })
    }

    fn symlink(path: &str, target: &str) -> Entry {
        let target = target.into();
        entry(path, EntryKind::Symlink { target })
    }

    fn check_parts(parts: ManifestParts, limits: &Limits) -> Result<(), ManifestError> {
        let keys = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        SignedManifest::sign(parts, &keys, limits).map(|_| ())
    }

    fn check(entries: &[Entry]) -> Result<(), ManifestError> {
        let entries = entries.to_vec();
        let parts = ManifestParts {
            entries,
            ..ManifestParts::default()
        };
        check_parts(parts, &Limits::default())
    }

    #[test]
    fn what_people_share_is_taken() {
        assert_eq!(check(&[]), Ok(()));
        let tree = [
            file("a/b/c", 1, 0o777),
            folder("a/b"),
            file("a b", 1, 0),
            file("a-b", 1, 0),
            folder("a"),
            symlink("a/up", ".."),
            symlink("a/on", "up"),
            symlink("bin", "a/up/a-b"),
        ];
        assert_eq!(check(&tree), Ok(()));
        assert_eq!(check(&[entry("-", EntryKind::Stream)]), Ok(()));
    }

    /// Rows 1, 15, 22, and malformed input.
    #[test]
    fn what_can_not_stand_below_one_folder_is_refused() {
        let mut answers = String::new();
        for entries in [
            vec![file("a", 1, 0), file("a", 2, 0)],
            vec![file("README", 1, 0), folder("b"), file("readme", 1, 0)],
            vec![file("caf\u{e9}", 1, 0), folder("cafe\u{301}")],
            vec![file("x/a\u{200d}", 1, 0), file("X/A", 1, 0)],
            vec![file("a/b/c", 1, 0), file("a-", 1, 0), file("a", 1, 0)],
            vec![symlink("A", "b"), file("a/x/y", 1, 0), folder("a/x")],
            vec![symlink("l", "../x")],
            vec![folder("d"), symlink("d/l", "a/../../../x")],
            vec![symlink("l", "/etc")],
            vec![file("a", 1, 0o4755)],
            vec![file("a", u64::MAX, 0), file("b", 1, 0)],
            vec![entry("-", EntryKind::Stream), folder("d")],
        ] {
            writeln!(answers, "{}", check(&entries).unwrap_err()).unwrap();
        }
        insta::assert_snapshot!(answers);
        assert_eq!(check(&[file("a", u64::MAX, 0), file("b", 0, 0)]), Ok(()));
    }

    /// Lexical resolution would place the target of `l` inside the root, but through `b` it is really above the root.
    #[test]
    fn symlinks_can_not_lead_each_other_out() {
        let escape = [
            symlink("x/y/b", "../.."),
            symlink("l", "x/y/b/../../../passwd"),
        ];
        let path = SafePath::parse("l").unwrap();
        let error = PathError::ClimbsBehindName;
        assert_eq!(check(&escape), Err(ManifestError::Symlink { path, error }));
    }

    #[test]
    fn times_have_nanoseconds_below_a_second() {
        let parts = |nanos| ManifestParts {
            created: Timestamp { seconds: 0, nanos },
            ..ManifestParts::default()
        };
        assert_eq!(check_parts(parts(999_999_999), &Limits::default()), Ok(()));
        let refused = check_parts(parts(1_000_000_000), &Limits::default());
        assert!(matches!(refused, Err(ManifestError::Time { .. })));
        let modified = parts(1_000_000_000).created;
        let refused = check(&[entry("d", EntryKind::Folder { mode: 0, modified })]);
        assert!(matches!(refused, Err(ManifestError::Time { .. })));
    }

    /// Row 14.
    #[test]
    fn limits_hold_at_n_and_not_at_n_and_one() {
        type Change = fn(&mut ManifestParts);
        let limits = Limits {
            manifest_entries: 2,
            description_bytes: 3,
            path_bytes: 5,
            path_depth: 2,
            ..Limits::default()
        };
        let full = ManifestParts {
            name: "n".repeat(255),
            description: "ddd".into(),
            author: "é".repeat(127),
            created: Timestamp::default(),
            entries: vec![file("ab/cd", 1, 0), folder("ab")],
        };
        assert_eq!(check_parts(full.clone(), &limits), Ok(()));
        let changes: [(&str, Change); 6] = [
            ("name", |parts| parts.name.push('n')),
            ("author", |parts| parts.author.push('é')),
            ("description", |parts| parts.description.push('d')),
            ("entries", |parts| parts.entries.push(folder("e"))),
            ("path", |parts| parts.entries[0] = folder("ab/cde")),
            ("depth", |parts| parts.entries[0] = folder("a/b/c")),
        ];
        let mut answers = String::new();
        for (what, change) in changes {
            let mut over = full.clone();
            change(&mut over);
            let error = check_parts(over, &limits).unwrap_err();
            writeln!(answers, "{what}: {error}").unwrap();
        }
        insta::assert_snapshot!(answers);

        let default = Limits::default();
        assert_eq!(default.manifest_entries as usize, MAX_ENTRIES);
    }

    #[test]
    fn many_entries_are_checked_in_reasonable_time() {
        let entries: Vec<_> = (0..20_000).map(|n| folder(&format!("d/{n}"))).collect();
        assert_eq!(check(&entries), Ok(()));
    }

    #[test]
    fn the_other_errors_say_what_is_wrong() {
        let mut messages = String::new();
        for error in [
            ManifestError::TooLarge { bytes: 2, max: 1 },
            ManifestError::Malformed("1 bytes behind it".into()),
            ManifestError::KeyKind,
            ManifestError::OtherSigner,
            ManifestError::BadSignature,
            ManifestError::Time {
                nanos: 1_000_000_000,
            },
            ManifestError::TooManyRoots(257),
            ManifestError::RootOrder,
            ManifestError::BadRootSignature,
        ] {
            writeln!(messages, "{error}").unwrap();
        }
        let path = SafePath::parse("a\u{202e}b").unwrap();
        writeln!(messages, "{}", ManifestError::Mode { path, mode: 0o4755 }).unwrap();
        insta::assert_snapshot!(messages);
    }

    proptest! {
        /// Compares with a naive implementation of the rule, over all pairs.
        #[test]
        fn names_collide_as_the_rule_says(
            names in prop::collection::vec(("([aA]/|b/|a!/){0,2}(a|A|b|a!)", 0..3), 0..6),
        ) {
            let entries: Vec<_> = names.iter().map(|(path, kind)| match kind {
                0 => file(path, 1, 0),
                1 => folder(path),
                _ => symlink(path, "x"),
            }).collect();
            let keys: BTreeSet<_> = entries.iter().map(|entry| entry.path.fold_key()).collect();
            let below = entries.iter().any(|above| {
                let prefix = above.path.fold_key() + "/";
                !matches!(above.kind, EntryKind::Folder { .. }) && keys.iter().any(|key| key.starts_with(&prefix))
            });
            prop_assert_eq!(check(&entries).is_ok(), keys.len() == entries.len() && !below);
        }
    }
}
