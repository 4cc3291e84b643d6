//! Selects entries of an offer: `--select`.
//!
//! A pattern without `/` is matched against each name in an entry's path, so it matches at any depth, and the name of a
//! folder selects all of its content. A pattern with `/` is matched against the path from the share's top and against
//! the paths of the parent folders. If everything is in one top folder, the pattern may omit that folder.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use handover_core::manifest::Manifest;

use super::failure::Failure;

/// Patterns that select entries.
#[derive(Debug)]
pub(crate) struct Selection {
    names: GlobSet,
    paths: GlobSet,
}

impl Selection {
    /// Parses patterns. `None` if there are none, which selects everything.
    pub(crate) fn parse(patterns: &[String]) -> Result<Option<Self>, Failure> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for pattern in patterns {
            let bare = pattern.trim_start_matches("./").trim_matches('/');
            let glob = GlobBuilder::new(bare)
                .literal_separator(true)
                .build()
                .map_err(invalid)?;
            let set = if bare.contains('/') {
                &mut paths
            } else {
                &mut names
            };
            set.add(glob);
        }
        let [names, paths] = [names, paths].map(|set| set.build().map_err(invalid));
        Ok(Some(Self {
            names: names?,
            paths: paths?,
        }))
    }

    /// Returns the indexes of the selected entries, in order. An empty selection is an error.
    pub(crate) fn choose(&self, manifest: &Manifest) -> Result<Vec<u32>, Failure> {
        let top = only_top(manifest);
        let chosen: Vec<u32> = (0..)
            .zip(manifest.entries())
            .filter(|(_, entry)| self.matches(entry.path.as_str(), top))
            .map(|(index, _)| index)
            .collect();
        if chosen.is_empty() {
            return Err(Failure::usage(
                "nothing in the offer matches --select",
                "Run it again without --select to see what there is.",
            ));
        }
        Ok(chosen)
    }

    fn matches(&self, path: &str, top: Option<&str>) -> bool {
        if path.split('/').any(|name| self.names.is_match(name)) {
            return true;
        }
        let below = top.and_then(|top| path.strip_prefix(top)?.strip_prefix('/'));
        let ends = path
            .match_indices('/')
            .map(|(end, _)| end)
            .chain([path.len()]);
        let skipped = path.len() - below.map_or(path.len(), str::len);
        !self.paths.is_empty()
            && ends.into_iter().any(|end| {
                let folder = &path[..end];
                let below = path.get(skipped..end).filter(|_| skipped > 0);
                self.paths.is_match(folder) || below.is_some_and(|below| self.paths.is_match(below))
            })
    }
}

// By value, because `map_err` passes the error by value.
#[allow(clippy::needless_pass_by_value)]
fn invalid(error: globset::Error) -> Failure {
    Failure::usage(
        format!("--select can't be read: {error}"),
        "Patterns have * (within a name), ** (across folders), ?, [a-z] and {this,that}; quote them for the shell.",
    )
}

/// The one folder that contains everything, if there is one.
fn only_top(manifest: &Manifest) -> Option<&str> {
    let mut tops = manifest
        .entries()
        .iter()
        .map(|entry| entry.path.components().next());
    let first = tops.next()??;
    tops.all(|top| top == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use handover_core::Keypair;
    use handover_core::limits::Limits;
    use handover_core::manifest::{Entry, EntryKind, ManifestParts, SignedManifest};
    use handover_core::path::SafePath;
    use handover_core::time::Timestamp;

    use super::*;

    fn chosen(patterns: &[&str], paths: &[&str]) -> Result<Vec<u32>, Failure> {
        let entry = |path: &&str| Entry {
            path: SafePath::parse(path).unwrap(),
            kind: EntryKind::File {
                size: 1,
                mode: 0o644,
                modified: Timestamp::default(),
            },
        };
        let parts = ManifestParts {
            entries: paths.iter().map(entry).collect(),
            ..ManifestParts::default()
        };
        let keys = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let signed = SignedManifest::sign(parts, &keys, &Limits::default()).unwrap();
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        Selection::parse(&patterns)?
            .unwrap()
            .choose(signed.manifest())
    }

    #[test]
    fn names_and_paths_are_found() {
        let mods = [
            "mods/a.pak",
            "mods/maps/b.map",
            "mods/maps/old/c.map",
            "mods/d.txt",
        ];
        for (patterns, expected) in [
            (&["*.map"][..], &[1, 2][..]),
            (&["maps"], &[1, 2]),
            (&["maps/"], &[1, 2]),
            (&["maps/*.map"], &[1]),
            (&["mods/maps/*.map"], &[1]),
            (&["./maps/old"], &[2]),
            (&["maps/**/*.map"], &[1, 2]),
            (&["a.pak", "d.*"], &[0, 3]),
            (&["{a,d}.*"], &[0, 3]),
            (&["**/c.map"], &[2]),
        ] {
            assert_eq!(chosen(patterns, &mods).unwrap(), expected, "{patterns:?}");
        }
        // With several top folders, none may be omitted.
        let two = ["a/x/1", "b/x/1"];
        assert!(chosen(&["x/1"], &two).is_err());
        assert_eq!(chosen(&["b/x/*"], &two).unwrap(), [1]);
    }

    #[test]
    fn nothing_found_and_nonsense_are_errors() {
        let none = chosen(&["*.png"], &["a.map"]).unwrap_err();
        assert!(none.what.contains("matches"));
        let nonsense = chosen(&["[a"], &["a.map"]).unwrap_err();
        assert!(nonsense.what.contains("can't be read"));
        assert!(Selection::parse(&[]).unwrap().is_none());
    }
}
