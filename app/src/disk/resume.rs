//! Checks what an earlier run has left in a download's folder: the folder is found by its name, its journal is read,
//! and trusted as far as file lengths agree. The engine has the bytes themselves verified.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;

use cap_std::fs::Dir;
use handover_core::engine::{Groups, Kept, Whole};
use handover_core::limits::GROUP;
use handover_core::merkle::Hash;
use handover_core::path::SafePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::beneath::{self, Walker};
use super::journal::Notes;
use super::known;
use super::staging::{path_of, split};

/// Number of alternative names, beside its own, that a file may have been published under.
const NUMBERS: u32 = 100;

/// The usable contents of a staging folder, and how far each file was written.
pub(super) struct Found {
    pub(super) kept: Kept,
    pub(super) ends: HashMap<u32, u64>,
}

/// Checks which of a journal's records still hold. `staging`: the folder, and the user who owns it.
pub(super) fn find(root: &Dir, staging: (&Dir, u32), notes: Notes) -> Found {
    let mut found = Found {
        kept: Kept::default(),
        ends: HashMap::new(),
    };
    let published: BTreeSet<u32> = notes.published.iter().map(|(entry, _)| *entry).collect();
    for run in notes.groups {
        found.take_groups(staging, run);
    }
    let mut walker = Walker::new(root);
    for whole in notes.whole {
        if staged_len(staging, whole.entry) == Some(whole.size) {
            found.ends.insert(whole.entry, whole.size);
            found.kept.whole.push((whole.entry, whole.root));
        } else if !published.contains(&whole.entry) && got_its_name(&mut walker, &whole) {
            found.kept.published.push(whole.entry);
        }
    }
    for (entry, path) in notes.published {
        let (parent, name) = split(&path);
        let parent = walker.enter(parent).ok();
        let stat = parent
            .and_then(|parent| rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok());
        if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
            found.kept.published.push(entry);
        }
    }
    found
}

impl Found {
    /// Adds the groups of a run that lie within the staged file's actual length.
    fn take_groups(&mut self, staging: (&Dir, u32), mut run: Groups) {
        let Some(len) = staged_len(staging, run.entry) else {
            return;
        };
        let end_of = |groups: usize| {
            let end = run.first.saturating_add(groups as u64);
            end.saturating_mul(GROUP.into()).min(run.size)
        };
        let many = (0..=run.nodes.len())
            .rev()
            .find(|many| end_of(*many) <= len);
        let many = many.unwrap_or_default();
        let end = end_of(many);
        run.nodes.truncate(many);
        if !run.nodes.is_empty() {
            // Anything after that was written but not recorded.
            let known = self.ends.entry(run.entry).or_default();
            *known = (*known).max(end);
            self.kept.groups.push(run);
        }
    }
}

fn staged_len((staging, owner): (&Dir, u32), entry: u32) -> Option<u64> {
    let stat = rustix::fs::statat(staging, path_of(entry), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    is_plain(&stat, owner).then(|| u64::try_from(stat.st_size).unwrap_or_default())
}

/// True for a regular file with no other name that belongs to this user: nobody else has it open under a name of their
/// own.
pub(super) fn is_plain(stat: &Stat, owner: u32) -> bool {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file && stat.st_nlink == 1 && stat.st_uid == owner
}

/// True if a file that was about to be published when the run ended got its final name, or one numbered from it. Its
/// content must match: any other file there is not ours.
fn got_its_name(walker: &mut Walker<'_>, whole: &Whole) -> bool {
    let numbered = (1..=NUMBERS).map(|number| whole.path.numbered(number));
    let names = std::iter::once(whole.path.clone()).chain(numbered);
    for name in names {
        match root_of(walker, &name, whole.size) {
            None => return false,
            Some(root) if root == Some(whole.root) => return true,
            Some(_) => {}
        }
    }
    false
}

/// The root of the file at `path`: `Some(None)` if that is not a file of this size, `None` if nothing exists there.
#[allow(clippy::option_option)]
fn root_of(walker: &mut Walker<'_>, path: &SafePath, size: u64) -> Option<Option<Hash>> {
    let (parent, name) = split(path);
    let parent = walker.enter(parent).ok()?;
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let opened = beneath::open(
        parent,
        name,
        OFlags::RDONLY | OFlags::NONBLOCK,
        Mode::empty(),
    );
    let Ok(file) = opened.map(File::from) else {
        return Some(None);
    };
    Some(known::root_of(&file, size))
}
