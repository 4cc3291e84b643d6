//! What an earlier run has left in a download's folder: found by its name, read from its journal, and believed as far
//! as lengths bear it out. Whether the bytes are what the journal says is for the engine to have read.

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

/// Names beside its own that a file may have got.
const NUMBERS: u32 = 100;

/// What a staging folder's files are, and how far each was written.
pub(super) struct Found {
    pub(super) kept: Kept,
    pub(super) ends: HashMap<u32, u64>,
}

/// Looks what of a journal is there. `staging`: the folder, and the user whom it belongs to.
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
    /// Groups of a file that is as long as they say.
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
            // What stands behind that was written and not noted.
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

/// A file by this name alone, which belongs to this user: nobody else has it open by a name of their own.
pub(super) fn is_plain(stat: &Stat, owner: u32) -> bool {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file && stat.st_nlink == 1 && stat.st_uid == owner
}

/// Whether a file that was about to get its name when the run ended has got it, or one numbered from it. It is known by
/// its content: whatever else stands there is not ours.
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

/// The root of what stands under a name, if that is a file of this size; `None` if nothing stands there.
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
