//! What an earlier run has left, by its journal: read and hashed once, beside the transfer. A disk that rots may have
//! changed it since, and so may somebody who can write to it. So nothing of it counts as here before it was read, and what
//! is not what the journal says is fetched again.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{Checking, DiskWork, DownloadId};
use crate::limits::GROUP;
use crate::merkle::{Hash, PartialTree, group_count, group_len};

/// Groups that one job reads: 16 MiB.
const GROUPS: u64 = 64;
/// Jobs at once.
const JOBS: usize = 2;

/// The groups that are read again, and how far that is.
#[derive(Default)]
pub(super) struct Recheck {
    waiting: VecDeque<Run>,
    /// Files that are noted as whole: what was read of them.
    whole: BTreeMap<u32, Whole>,
    /// By file and first group: what is being read.
    under_way: BTreeMap<(u32, u64), Run>,
    /// Bytes that were read, and those that are to be read in all.
    read: u64,
    total: u64,
    /// Bytes that were read and are right.
    right: u64,
}

/// Groups of one file, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    entry: u32,
    size: u64,
    first: u64,
    expected: Expected,
}

/// What groups should hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Nodes(VecDeque<Hash>),
    /// So many groups of a file of which only the root is known.
    Whole(u64),
}

/// A file of which the root is known.
struct Whole {
    tree: PartialTree,
    root: Hash,
    unread: u64,
}

/// What a job has found out of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Of the groups that were read, these are as they were noted.
    Groups {
        read: Range<u64>,
        right: Vec<(u64, Hash)>,
    },
    /// A whole file is.
    Whole,
    /// A whole file is not.
    NotWhole,
}

impl Run {
    fn len(&self) -> u64 {
        match &self.expected {
            Expected::Nodes(nodes) => nodes.len() as u64,
            Expected::Whole(count) => *count,
        }
    }

    fn bytes(&self) -> u64 {
        let start = self.first.saturating_mul(GROUP.into());
        let end = (self.first + self.len()).saturating_mul(GROUP.into());
        end.min(self.size).saturating_sub(start)
    }

    /// Cuts off what one job reads.
    fn take(&mut self) -> Self {
        let count = self.len().min(GROUPS);
        let expected = match &mut self.expected {
            Expected::Nodes(nodes) => {
                let many = usize::try_from(count).unwrap_or(nodes.len());
                Expected::Nodes(nodes.drain(..many).collect())
            }
            Expected::Whole(left) => {
                *left -= count;
                Expected::Whole(count)
            }
        };
        let first = self.first;
        self.first += count;
        Self {
            first,
            expected,
            ..*self
        }
    }
}

impl Recheck {
    /// A group of a file of `size` bytes is to be read.
    pub(super) fn add_group(&mut self, entry: u32, size: u64, group: u64, node: Hash) {
        self.total += u64::from(group_len(size, group));
        if let Some(run) = self.waiting.back_mut()
            && run.entry == entry
            && run.first + run.len() == group
            && let Expected::Nodes(nodes) = &mut run.expected
        {
            return nodes.push_back(node);
        }
        self.waiting.push_back(Run {
            entry,
            size,
            first: group,
            expected: Expected::Nodes(VecDeque::from([node])),
        });
    }

    /// A file that is noted as whole is to be read.
    pub(super) fn add_whole(&mut self, entry: u32, size: u64, root: Hash) {
        let unread = group_count(size);
        let tree = PartialTree::new(size);
        let whole = Whole { tree, root, unread };
        if self.whole.insert(entry, whole).is_some() {
            return;
        }
        self.total += size;
        self.waiting.push_back(Run {
            entry,
            size,
            first: 0,
            expected: Expected::Whole(unread),
        });
    }

    /// What the next job reads, if there may be one more.
    fn next(&mut self) -> Option<&Run> {
        if self.under_way.len() >= JOBS {
            return None;
        }
        let first = self.waiting.front_mut()?;
        let run = first.take();
        if first.len() == 0 {
            self.waiting.pop_front();
        }
        let place = (run.entry, run.first);
        Some(self.under_way.entry(place).insert_entry(run).into_mut())
    }

    /// A job has ended: the groups hash to this, as far as they could be read.
    pub(super) fn came(&mut self, place: (u32, u64), hashes: &[Hash]) -> Option<Found> {
        let run = self.under_way.remove(&place)?;
        self.read += run.bytes();
        let found = match &run.expected {
            Expected::Nodes(nodes) => {
                let read = run.first..run.first + run.len();
                let groups = read.clone().zip(nodes.iter().zip(hashes));
                let right: Vec<(u64, Hash)> = groups
                    .filter(|(_, (expected, found))| expected == found)
                    .map(|(group, (node, _))| (group, *node))
                    .collect();
                let bytes = right.iter().map(|(group, _)| group_len(run.size, *group));
                self.right += bytes.map(u64::from).sum::<u64>();
                Found::Groups { read, right }
            }
            Expected::Whole(count) => {
                let whole = self.whole.get_mut(&run.entry)?;
                for (group, node) in (run.first..).zip(hashes) {
                    whole.tree.insert(group, *node);
                }
                whole.unread = whole.unread.saturating_sub(*count);
                if whole.unread > 0 {
                    return None;
                }
                let is_right = whole.tree.root() == Some(whole.root);
                self.whole.remove(&run.entry);
                if is_right {
                    self.right += run.size;
                    Found::Whole
                } else {
                    Found::NotWhole
                }
            }
        };
        Some(found)
    }

    /// Whether something waits to be read, or is being read.
    pub(super) fn is_busy(&self) -> bool {
        !self.under_way.is_empty() || !self.waiting.is_empty()
    }

    /// Bytes that an earlier run has fetched.
    pub(super) fn right(&self) -> u64 {
        self.right
    }

    /// How far it is, while it is under way.
    pub(super) fn progress(&self) -> Option<Checking> {
        self.is_busy().then_some(Checking {
            done: self.read,
            total: self.total,
        })
    }
}

impl Recheck {
    /// Has the disk read what an earlier run has left.
    pub(super) fn start(&mut self, cx: &mut Context, download: DownloadId) {
        while let Some(run) = self.next() {
            let work = DiskWork::HashStaged {
                download,
                entry: run.entry,
                first: run.first,
                count: u32::try_from(run.len()).unwrap_or(u32::MAX),
            };
            let (entry, first) = (run.entry, run.first);
            let job = DownloadJob::HashStaged { entry, first };
            cx.disk(JobOwner::Download(download, job), work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{file_root, hash_group};

    const SIZE: u64 = 3 * GROUP as u64 + 5;

    fn node(of: u8) -> Hash {
        Hash([of; 32])
    }

    fn read(recheck: &mut Recheck, hashes: &[Hash]) -> Option<Found> {
        let place = recheck.next().map(|run| (run.entry, run.first));
        recheck.came(place.unwrap(), hashes)
    }

    #[test]
    fn groups_are_here_as_far_as_they_are_what_was_noted() {
        let mut recheck = Recheck::default();
        for group in [0, 1, 3] {
            recheck.add_group(7, SIZE, group, node(9));
        }
        let total = 2 * u64::from(GROUP) + 5;
        let progress = |done| Some(Checking { done, total });
        assert_eq!(recheck.progress(), progress(0));
        let found = read(&mut recheck, &[node(9), node(8)]);
        assert_eq!(
            found,
            Some(Found::Groups {
                read: 0..2,
                right: vec![(0, node(9))]
            })
        );
        assert_eq!(recheck.progress(), progress(2 * u64::from(GROUP)));
        assert_eq!(recheck.right(), u64::from(GROUP));
        // It could not be read.
        let nothing = Found::Groups {
            read: 3..4,
            right: Vec::new(),
        };
        assert_eq!(read(&mut recheck, &[]), Some(nothing));
        assert!(!recheck.is_busy() && recheck.progress().is_none());
    }

    #[test]
    fn a_file_that_was_whole_is_so_by_its_root() {
        let bytes = vec![3; usize::try_from(SIZE).unwrap()];
        let root = file_root(&bytes);
        let hashes: Vec<Hash> = bytes.chunks(GROUP as usize).map(hash_group).collect();
        let mut recheck = Recheck::default();
        recheck.add_whole(1, SIZE, root);
        assert_eq!(read(&mut recheck, &hashes), Some(Found::Whole));
        assert_eq!(recheck.right(), SIZE);
        let mut rotten = hashes.clone();
        rotten[2] = node(1);
        for bad in [rotten.as_slice(), &hashes[..3], &[]] {
            recheck.add_whole(1, SIZE, root);
            assert_eq!(read(&mut recheck, bad), Some(Found::NotWhole));
        }
        assert_eq!(recheck.right(), SIZE);
    }

    #[test]
    fn one_job_reads_so_many_groups_and_so_many_jobs_run_at_once() {
        let mut recheck = Recheck::default();
        let groups = GROUPS * 2 + 1;
        recheck.add_whole(1, groups * u64::from(GROUP), node(1));
        let next = |recheck: &mut Recheck| recheck.next().map(|run| (run.first, run.len()));
        assert_eq!(next(&mut recheck), Some((0, GROUPS)));
        assert_eq!(next(&mut recheck), Some((GROUPS, GROUPS)));
        assert_eq!(next(&mut recheck), None);
        assert_eq!(recheck.came((1, GROUPS), &[]), None);
        assert_eq!(recheck.came((1, 0), &[]), None);
        assert_eq!(next(&mut recheck), Some((2 * GROUPS, 1)));
        assert_eq!(recheck.came((1, 2 * GROUPS), &[]), Some(Found::NotWhole));
        assert!(!recheck.is_busy());
    }
}
