//! Paths inside a share: which names a peer may use, and where a symlink may point.
//!
//! A [`SafePath`] exists only if it stays below its root on every system. The rules of Unix, Windows and macOS apply
//! everywhere, so that a name is valid on all of them or on none. A path says nothing about what exists at that place on
//! a disk; not following symlinks there is the driver's job. Bidirectional and invisible characters are allowed, because
//! people use them in names; code that prints a path must escape them.

use std::fmt;

use crate::limits::Limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod name;

pub use name::fold;
use name::{check_component, stem};

/// Prefix of the names of staging folders. No component of a share's path may start with it, in any case or spelling:
/// it could impersonate a file that is still being downloaded.
pub const STAGING_PREFIX: &str = ".handover-";
/// Maximum length of one component, in bytes: the limit of the usual file systems.
pub const MAX_COMPONENT: usize = 255;
/// Maximum length of a path where no [`Limits`] are available, in bytes.
const MAX_PATH: usize = 4096;
/// Maximum number of components of a path where no [`Limits`] are available.
const MAX_DEPTH: usize = 128;

/// Maximum length of a name made from a title, in bytes.
const MAX_CALLED: usize = 120;

/// A relative path in UTF-8 with `/` between its components, which cannot lead out of its root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafePath(String);

impl SafePath {
    /// Checks a path against the default limits: 4096 bytes, 128 components.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        check(path, MAX_PATH, MAX_DEPTH)?;
        Ok(Self(path.to_owned()))
    }

    /// Checks a path against `limits`: its `path_bytes` and `path_depth`.
    pub fn parse_with(path: &str, limits: &Limits) -> Result<Self, PathError> {
        check(path, limits.path_bytes, limits.path_depth)?;
        Ok(Self(path.to_owned()))
    }

    /// Checks a path that is already valid against other (smaller) limits.
    pub(crate) fn check_limits(&self, limits: &Limits) -> Result<(), PathError> {
        check_size(&self.0, limits.path_bytes, limits.path_depth)
    }

    /// Returns the path as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its components, outermost first. There is at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the folder that contains it; `None` if that is the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        Some(Self(parent.to_owned()))
    }

    /// Returns its last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// Returns the path `below` this one. `below` may have several components; the result is checked as a whole.
    pub fn join(&self, below: &str) -> Result<Self, PathError> {
        if below.starts_with('/') {
            return Err(PathError::Absolute);
        }
        Self::parse(&format!("{}/{below}", self.0))
    }

    /// Makes a single name from a title: strips leading dots and spaces, replaces characters that names may not contain,
    /// and truncates it to `MAX_CALLED` bytes. `None` if the result is not a valid name.
    pub fn called(text: &str) -> Option<Self> {
        let fits = |c: char| !(c.is_control() || matches!(c, '/' | '\\' | ':'));
        let name: String = text
            .chars()
            .map(|c| if fits(c) { c } else { '_' })
            .collect();
        let name = name.trim_start_matches(['.', ' ']);
        let name = &name[..name.floor_char_boundary(MAX_CALLED)];
        let name = name.trim_end_matches(['.', ' ']);
        Self::parse(name).ok()
    }

    /// Returns this path below `folder`. The result may exceed the limit for peers' paths by the folder's length.
    #[must_use]
    pub fn below(&self, folder: &Self) -> Self {
        Self(format!("{}/{}", folder.0, self.0))
    }

    /// Parses a path that this side made from a checked one: [below](Self::below) a folder, or [numbered](Self::numbered).
    pub fn parse_made(path: &str) -> Result<Self, PathError> {
        check(path, MAX_PATH + 2 * MAX_COMPONENT, MAX_DEPTH + 1)?;
        Ok(Self(path.to_owned()))
    }

    /// Returns the path of `name` in the same folder.
    pub fn with_file_name(&self, name: &str) -> Result<Self, PathError> {
        if name.contains('/') {
            return Err(PathError::NotOneName);
        }
        Self::parse(&self.beside(name))
    }

    /// Returns the path for a further file of the same name: `a.tar.gz` becomes `a (1).tar.gz`.
    ///
    /// The number goes before the extensions (short, of ASCII letters and digits, at least one letter). A component that
    /// would exceed [`MAX_COMPONENT`] loses the end of its stem. The whole path may exceed the limit for peers' paths by
    /// the 13 bytes of the longest number.
    #[must_use]
    pub fn numbered(&self, n: u32) -> Self {
        let name = self.file_name();
        let stem = stem(name);
        let extensions = name.strip_prefix(stem).unwrap_or_default();
        let number = format!(" ({n})");
        let room = MAX_COMPONENT.saturating_sub(extensions.len() + number.len());
        let stem = stem.get(..stem.floor_char_boundary(room)).unwrap_or(stem);
        Self(self.beside(&format!("{stem}{number}{extensions}")))
    }

    /// Returns a key that is equal for two paths if some file system treats them as the same.
    ///
    /// Invisible ("default ignorable") characters are removed, because HFS+ and ext4's case folding ignore them. Then
    /// follow NFD, mapping each character to upper and back to lower case (which turns `ß` into `ss` and `ς` into `σ`,
    /// like full case folding), and NFC. Compatibility forms stay distinct (`x²` is not `x2`): no usual file system merges
    /// them, and people use both. The `/` between components are kept.
    pub fn fold_key(&self) -> String {
        fold(&self.0)
    }

    fn beside(&self, name: &str) -> String {
        match self.0.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{name}"),
            None => name.to_owned(),
        }
    }
}

/// Writes the path as received from the peer, unescaped.
impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SafePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SafePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = String::deserialize(deserializer)?;
        check(&path, MAX_PATH, MAX_DEPTH).map_err(serde::de::Error::custom)?;
        Ok(Self(path))
    }
}

/// Checks that the symlink `link` with this `target` stays inside the root.
///
/// A target is relative to the link's folder: any number of `..` that does not climb above the root, then names. A `..`
/// after a name is refused even where it would lead back inside: if that name is itself a symlink, the system climbs
/// from the target of *that* symlink, not from its location. Without such `..`, each link leads to a real folder above
/// it and from there only downwards, so a chain of links of one share stays inside, however they are nested and however
/// a file system compares names. (This assumes that no link of the share is below another, which the manifest's rules
/// ensure.)
pub fn symlink_stays_inside(link: &SafePath, target: &str) -> Result<(), PathError> {
    if target.is_empty() {
        return Err(PathError::Empty);
    }
    if target.len() > MAX_PATH {
        return Err(PathError::TooLong {
            bytes: target.len(),
            max: MAX_PATH,
        });
    }
    if target.starts_with('/') {
        return Err(PathError::Absolute);
    }
    check_characters(target)?;
    let mut folders_above = link.components().skip(1).count();
    let mut named = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if named => return Err(PathError::ClimbsBehindName),
            ".." => {
                folders_above = folders_above.checked_sub(1).ok_or(PathError::LeavesRoot)?;
            }
            name => {
                check_component(name)?;
                named = true;
            }
        }
    }
    Ok(())
}

/// Why a path or a symlink's target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It is longer than the limit.
    #[error("it is {bytes} bytes long; {max} are allowed")]
    TooLong {
        /// Its length, in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It has more components than the limit.
    #[error("it is {depth} folders deep; {max} are allowed")]
    TooDeep {
        /// Its number of components.
        depth: usize,
        /// The limit.
        max: usize,
    },
    /// A component is longer than [`MAX_COMPONENT`].
    #[error("it has a name of {bytes} bytes; {MAX_COMPONENT} are allowed")]
    ComponentTooLong {
        /// The component's length, in bytes.
        bytes: usize,
    },
    /// It starts with `/`.
    #[error("it is absolute, not relative")]
    Absolute,
    /// `a//b`, or a `/` at the end.
    #[error("it has an empty name in it (two slashes in a row, or one at the end)")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("it has a `.` or `..` in it")]
    DotComponent,
    /// NUL.
    #[error("it has a NUL character in it")]
    Nul,
    /// `\`, the separator on Windows.
    #[error("it has a backslash in it")]
    Backslash,
    /// A control character: C0, DEL or C1.
    #[error("it has a control character in it")]
    Control,
    /// `C:` or `C:x`.
    #[error("it has a drive letter in it")]
    DriveLetter,
    /// `CON`, `lpt1.txt`, ….
    #[error("it has a name in it that Windows keeps for a device")]
    DeviceName,
    /// A component ends in a dot or a space, which Windows drops, so that two names would become one.
    #[error("it has a name in it that ends in a dot or a space")]
    TrailingDotOrSpace,
    /// A component starts with [`STAGING_PREFIX`].
    #[error(
        "a name in it begins with `{STAGING_PREFIX}`, which handover keeps for files on their way"
    )]
    Staging,
    /// A path was given where a single name was expected.
    #[error("it is a path, not one name")]
    NotOneName,
    /// A symlink's target climbs above the root.
    #[error("it leads out of the share")]
    LeavesRoot,
    /// A symlink's target has a `..` after a name.
    #[error("it has a `..` behind a name, which may lead out of the share")]
    ClimbsBehindName,
}

fn check(path: &str, max_bytes: usize, max_depth: usize) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    check_size(path, max_bytes, max_depth)?;
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    check_characters(path)?;
    path.split('/').try_for_each(check_component)?;
    // At any depth: the user may download into a folder of an earlier share.
    if path
        .split('/')
        .any(|name| fold(name).starts_with(STAGING_PREFIX))
    {
        return Err(PathError::Staging);
    }
    Ok(())
}

fn check_size(path: &str, max_bytes: usize, max_depth: usize) -> Result<(), PathError> {
    if path.len() > max_bytes {
        return Err(PathError::TooLong {
            bytes: path.len(),
            max: max_bytes,
        });
    }
    let depth = path.split('/').count();
    if depth > max_depth {
        return Err(PathError::TooDeep {
            depth,
            max: max_depth,
        });
    }
    Ok(())
}

fn check_characters(path: &str) -> Result<(), PathError> {
    path.chars().try_for_each(|c| match c {
        '\0' => Err(PathError::Nul),
        '\\' => Err(PathError::Backslash),
        c if c.is_control() => Err(PathError::Control),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::{Component, Path};

    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    fn path(path: &str) -> SafePath {
        SafePath::parse(path).unwrap()
    }

    #[test]
    fn names_that_people_use_are_taken() {
        for name in [
            "a",
            "a/b/c",
            ".bashrc",
            "..a",
            "a..b/c...d",
            "What? <really>: \"yes\" | *.mp3",
            "10:30.txt",
            "console/auxiliary/common1/com10/lpt",
            "con-notes.txt",
            "Zoë/日本/👩‍👩‍👧.png",
            "evil\u{202e}txt.exe",
            " leading space",
            ".handover",
        ] {
            assert_eq!(path(name).as_str(), name);
        }
    }

    /// Rows 1 and 21: the same answer for each name on every system.
    #[test]
    fn names_that_lead_elsewhere_are_refused_and_the_error_says_why() {
        let mut answers = String::new();
        for name in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\0b",
            "..\\a",
            "C:\\a",
            "\\\\server\\share",
            "a\nb",
            "a\u{7f}",
            "a\u{9b}31m",
            "C:",
            "c:a",
            "a/z:/b",
            "CON",
            "a/prn/b",
            "con.txt",
            "NUL.tar.gz",
            "COM1 .log",
            "com¹",
            "LPT³.x",
            "lpt0",
            "aux:stream",
            "ConIn$",
            "CONOUT$.txt",
            "a.",
            "a /b",
            "...",
            ".handover-1/0",
            ".HandOver-x",
            ".hand\u{200d}over-x",
            "sub/.handover-1/0",
        ] {
            let error = SafePath::parse(name).unwrap_err();
            writeln!(answers, "{name:?}: {error}").unwrap();
        }
        insta::assert_snapshot!(answers);
    }

    /// Row 14.
    #[test]
    fn limits_hold_at_n_and_not_at_n_and_one() {
        let limits = Limits::default();
        assert_eq!(
            (MAX_PATH, MAX_DEPTH),
            (limits.path_bytes, limits.path_depth)
        );

        let deep = |n: usize| vec!["a"; n].join("/");
        assert!(SafePath::parse(&deep(128)).is_ok());
        let too_deep = PathError::TooDeep {
            depth: 129,
            max: 128,
        };
        assert_eq!(SafePath::parse(&deep(129)), Err(too_deep));

        assert!(SafePath::parse(&"é".repeat(127)).is_ok());
        let too_long = PathError::ComponentTooLong { bytes: 256 };
        assert_eq!(SafePath::parse(&"é".repeat(128)), Err(too_long));

        let long = vec!["x".repeat(255); 16].join("/");
        assert_eq!(long.len(), 4095);
        assert!(SafePath::parse(&long).is_ok());
        let long = long.replacen('x', "x/y", 1);
        assert_eq!(
            SafePath::parse(&long),
            Err(PathError::TooLong {
                bytes: 4097,
                max: 4096
            })
        );

        let small = Limits {
            path_bytes: 5,
            path_depth: 2,
            ..limits
        };
        assert!(SafePath::parse_with("ab/cd", &small).is_ok());
        let error = SafePath::parse_with("ab/cde", &small);
        assert_eq!(error, Err(PathError::TooLong { bytes: 6, max: 5 }));
        let error = SafePath::parse_with("a/b/c", &small);
        assert_eq!(error, Err(PathError::TooDeep { depth: 3, max: 2 }));
    }

    #[test]
    fn a_path_is_taken_apart_and_put_together() {
        let file = path("a/b/c.txt");
        assert_eq!(file.file_name(), "c.txt");
        assert_eq!(file.parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), None);
        assert_eq!(path("a").file_name(), "a");
        assert_eq!(path("a").join("b/c.txt"), Ok(file.clone()));
        assert_eq!(path("a").join("/b"), Err(PathError::Absolute));
        assert_eq!(path("a").join("../b"), Err(PathError::DotComponent));
        assert_eq!(path("a").join(""), Err(PathError::EmptyComponent));
        assert_eq!(file.with_file_name("d"), Ok(path("a/b/d")));
        assert_eq!(file.with_file_name("d/e"), Err(PathError::NotOneName));
    }

    #[test]
    fn what_something_is_called_makes_a_name_or_none() {
        let long = "ä".repeat(200);
        for (called, name) in [
            ("Holiday photos", Some("Holiday photos")),
            ("..", None),
            ("", None),
            (" . ", None),
            (".ssh", Some("ssh")),
            ("../../etc/passwd", Some("_.._etc_passwd")),
            ("C:\\Windows", Some("C__Windows")),
            ("a\nb\0c.", Some("a_b_c")),
            ("NUL", None),
            (".handover-x", Some("handover-x")),
            (&long, Some(&long[..120])),
        ] {
            let made = SafePath::called(called);
            assert_eq!(made.as_ref().map(SafePath::as_str), name, "{called:?}");
        }
    }

    #[test]
    fn a_path_of_the_longest_below_a_folder_is_read_again_as_it_was_made() {
        let longest = format!("{}b", "a/".repeat(MAX_DEPTH - 1));
        let longest = format!("{longest}{}", "b".repeat(MAX_COMPONENT - 1));
        let folder = SafePath::called(&"f".repeat(300)).unwrap();
        let made = SafePath::parse(&longest)
            .unwrap()
            .below(&folder)
            .numbered(7);
        assert_eq!(SafePath::parse_made(made.as_str()), Ok(made));
    }

    #[test]
    fn a_second_file_of_a_name_gets_a_number_before_its_extensions() {
        for (name, numbered) in [
            ("a.tar.gz", "a (1).tar.gz"),
            ("d.d/.bashrc", "d.d/.bashrc (1)"),
            (".config.json", ".config (1).json"),
            ("Report v1.2 final.pdf", "Report v1.2 final (1).pdf"),
            ("Report v1.2.pdf", "Report v1.2 (1).pdf"),
            ("plain", "plain (1)"),
            ("..a", "..a (1)"),
        ] {
            assert_eq!(path(name).numbered(1), path(numbered));
        }
        let long = path(&format!("{}.txt", "é".repeat(125)));
        let numbered = long.numbered(u32::MAX);
        assert_eq!(
            numbered.as_str(),
            format!("{} (4294967295).txt", "é".repeat(119))
        );
    }

    /// Row 22.
    #[test]
    fn names_that_some_file_system_takes_for_one_share_a_key() {
        for (a, b) in [
            ("README", "readme"),
            ("caf\u{e9}", "CAFE\u{301}"),
            ("straße", "STRASSE"),
            ("ΟΔΟΣ/x", "οδος/X"),
            ("\u{212a}elvin", "kelvin"),
            ("\u{130}", "i\u{307}"),
            (".g\u{200c}it", ".git"),
            ("a\u{feff}b", "ab"),
        ] {
            assert_eq!(path(a).fold_key(), path(b).fold_key(), "{a:?} {b:?}");
        }
        assert_ne!(path("x²").fold_key(), path("x2").fold_key());
        assert_ne!(path("a/b").fold_key(), path("ab").fold_key());
    }

    #[test]
    fn symlinks_stay_inside_or_are_refused() {
        for (link, target) in [
            ("l", "a"),
            ("l", "a/b/"),
            ("l", "."),
            ("l", "./a//b/."),
            ("x/l", ".."),
            ("x/y/l", "../../a"),
        ] {
            assert_eq!(symlink_stays_inside(&path(link), target), Ok(()));
        }
        let mut answers = String::new();
        for (link, target) in [
            ("l", ""),
            ("l", "/etc"),
            ("l", ".."),
            ("x/l", "../../a"),
            ("l", "a/../../x"),
            ("x/y/l", "a/.."),
            ("l", "..\\a"),
            ("l", "C:/a"),
            ("l", "a\0"),
            ("l", "a\u{1b}"),
            ("l", "nul"),
        ] {
            let error = symlink_stays_inside(&path(link), target).unwrap_err();
            writeln!(answers, "{link} -> {target:?}: {error}").unwrap();
        }
        insta::assert_snapshot!(answers);
        let link = path("l");
        assert!(symlink_stays_inside(&link, &"a/".repeat(2048)).is_ok());
        let error = symlink_stays_inside(&link, &("a/".repeat(2048) + "a"));
        assert!(matches!(error, Err(PathError::TooLong { .. })));
    }

    #[test]
    fn decoding_checks_what_parsing_checks() {
        let good: SafePath = serde_json::from_str("\"a/b\"").unwrap();
        assert_eq!(serde_json::to_string(&good).unwrap(), "\"a/b\"");
        assert!(serde_json::from_str::<SafePath>("\"../b\"").is_err());
    }

    /// Texts that resemble paths, so that many of them parse.
    fn pathlike() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "([a-zA-Z.: ]{0,3}(/|\\\\|\\.\\.|é|\u{200d}|con|COM1|\0)?){0,6}",
            "([a-z]{1,3}(\\.[a-z]{1,3})?/){0,4}[a-z]{1,8}(\\.[a-z0-9]{1,4}){0,3}",
        ]
    }

    proptest! {
        /// Row 1.
        #[test]
        fn any_parsed_path_stays_below_the_root(text in pathlike()) {
            if let Ok(path) = SafePath::parse(&text) {
                prop_assert_eq!(path.as_str(), &text);
                let joined = Path::new("/root").join(path.as_str());
                let below = joined.strip_prefix("/root").unwrap();
                prop_assert!(below.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(below.components().count(), path.components().count());
            }
        }

        #[test]
        fn a_numbered_path_is_a_path_in_the_same_folder(text in pathlike(), n: u32) {
            if let Ok(path) = SafePath::parse(&text) {
                let numbered = path.numbered(n);
                prop_assert_eq!(SafePath::parse(numbered.as_str()), Ok(numbered.clone()));
                prop_assert_eq!(numbered.parent(), path.parent());
                prop_assert_ne!(numbered, path);
            }
        }

        #[test]
        fn equivalent_spellings_share_a_key(text in "[a-zA-ZéÉöÅßſςΣﬁ\u{301}\u{327}\u{345}\u{200d}]{1,12}") {
            let key = path(&text).fold_key();
            for spelling in [text.nfc().collect(), text.nfd().collect::<String>(), text.to_lowercase()] {
                if let Ok(spelling) = SafePath::parse(&spelling) {
                    prop_assert_eq!(&spelling.fold_key(), &key);
                }
            }
        }

        /// A chain of allowed targets never leads above the root.
        #[test]
        fn an_allowed_target_never_climbs_over_the_root(
            link in "([ab]/){0,3}l",
            target in "(\\.\\./|\\./|a/|/){0,5}(a|\\.\\.|)",
        ) {
            let link = path(&link);
            if symlink_stays_inside(&link, &target).is_ok() {
                let mut depth = link.components().count() - 1;
                for part in target.split('/') {
                    match part {
                        "" | "." => {}
                        ".." => { prop_assert!(depth > 0); depth -= 1; }
                        _ => depth += 1,
                    }
                }
            }
        }
    }
}
