//! Reading a share, and what happens if its files change meanwhile.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use handover_core::engine::{GroupHash, Segment};
use handover_core::limits::{GROUP, LEAF};

use super::*;

struct Sharer {
    disk: Disk,
    at: tempfile::TempDir,
    entries: Vec<SafePath>,
}

impl Sharer {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let at = tempfile::tempdir().unwrap();
        let root = at.path().join("root");
        for (name, content) in files {
            let file = root.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        let disk = Disk::default();
        disk.register_share(SHARE, ShareInput::Paths(vec![root]));
        let DiskDone::Scanned(scanned) = disk.perform(DiskWork::Scan { share: SHARE }) else {
            panic!();
        };
        let entries = scanned
            .entries
            .into_iter()
            .map(|entry| entry.path)
            .collect();
        Self { disk, at, entries }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.at.path().join("root").join(name)
    }

    fn segment(&self, name: &str, offset: u64, len: u32) -> Segment {
        let wanted = path(&format!("root/{name}"));
        let entry = self
            .entries
            .iter()
            .position(|entry| *entry == wanted)
            .unwrap();
        Segment {
            entry: u32::try_from(entry).unwrap(),
            offset,
            len,
        }
    }

    #[allow(clippy::type_complexity)]
    fn read(
        &self,
        segments: Vec<Segment>,
        hash: bool,
    ) -> (Bytes, Vec<Result<Option<GroupHash>, DiskError>>) {
        match self.disk.perform(DiskWork::Read {
            share: SHARE,
            segments,
            hash,
        }) {
            DiskDone::Read { payload, segments } => (payload, segments),
            other => panic!("{other:?}"),
        }
    }

    fn error(&self, segment: Segment) -> DiskError {
        let (payload, mut outcomes) = self.read(vec![segment], true);
        assert!(payload.is_empty());
        outcomes.remove(0).unwrap_err()
    }
}

#[test]
fn segments_come_in_order_with_the_hashes_of_their_groups() {
    let big = bytes(GROUP as usize + 100_000);
    let sharer = Sharer::new(&[("big", &big), ("small", b"small"), ("empty", b"")]);
    let group = u64::from(GROUP);
    let (payload, outcomes) = sharer.read(
        vec![
            sharer.segment("small", 0, 5),
            sharer.segment("big", u64::from(LEAF), 2 * LEAF),
            sharer.segment("big", group, 100_000),
            sharer.segment("empty", 0, 0),
        ],
        true,
    );
    let leaf = LEAF as usize;
    let expected = [&b"small"[..], &big[leaf..3 * leaf], &big[GROUP as usize..]].concat();
    assert_eq!(payload, expected);
    let hashes: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().unwrap())
        .collect();
    let whole = |bytes| GroupHash {
        hash: merkle::hash_group(bytes),
        inner: vec![],
    };
    let first = &big[..GROUP as usize];
    assert_eq!(hashes[0], whole(b"small"));
    assert_eq!(hashes[1].hash, merkle::hash_group(first));
    assert_eq!(hashes[1].inner, merkle::group_proof(first, LEAF, 2 * LEAF));
    assert_eq!(hashes[2], whole(&big[GROUP as usize..]));
    assert_eq!(hashes[3], whole(b""));
    let (_, plain) = sharer.read(vec![sharer.segment("small", 0, 5)], false);
    assert_eq!(plain, [Ok(None)]);
}

#[test]
fn groups_are_hashed_one_after_the_other() {
    let big = bytes(2 * GROUP as usize + 1);
    let sharer = Sharer::new(&[("big", &big)]);
    let hash = |first, count| {
        let entry = sharer.segment("big", 0, 0).entry;
        sharer.disk.perform(DiskWork::HashGroups {
            share: SHARE,
            entry,
            first,
            count,
        })
    };
    let expected: Vec<_> = big.chunks(GROUP as usize).map(merkle::hash_group).collect();
    assert!(matches!(hash(0, 3), DiskDone::Hashed { hashes } if hashes == expected));
    assert!(matches!(hash(1, 2), DiskDone::Hashed { hashes } if hashes == expected[1..]));
    assert!(matches!(hash(1, 3), DiskDone::Failed(DiskError::Other(_))));
    assert!(matches!(
        hash(u64::MAX, 1),
        DiskDone::Failed(DiskError::Other(_))
    ));
    fs::write(sharer.path("big"), "shorter").unwrap();
    assert!(matches!(hash(0, 1), DiskDone::Failed(DiskError::Changed)));
}

#[test]
fn ranges_that_are_no_leaves_of_one_group_are_refused() {
    let sharer = Sharer::new(&[("big", &bytes(2 * GROUP as usize))]);
    for (offset, len) in [
        (1, LEAF),
        (0, LEAF - 1),
        (u64::from(LEAF), GROUP),
        (2 * u64::from(GROUP), LEAF),
        (u64::MAX - 5, 5),
        (0, 0),
    ] {
        let error = sharer.error(sharer.segment("big", offset, len));
        assert!(matches!(error, DiskError::Other(_)), "{offset} {len}");
    }
    let beyond = Segment {
        entry: 99,
        offset: 0,
        len: 1,
    };
    assert_eq!(sharer.error(beyond), DiskError::NotFound);
}

/// Threat: the sharer's file changes or vanishes while it is sent. The others are still served.
#[test]
fn a_file_that_is_not_what_it_was_fails_alone() {
    let content = bytes(3 * LEAF as usize);
    for (what, expected) in [
        ("truncated", DiskError::Changed),
        ("grown", DiskError::Changed),
        ("touched", DiskError::Changed),
        ("removed", DiskError::NotFound),
        ("replaced", DiskError::Changed),
        ("made a symlink", DiskError::Changed),
        ("made a folder", DiskError::Changed),
        ("made a pipe", DiskError::Changed),
    ] {
        // Once with the file open from an earlier read, once without.
        for opened_before in [true, false] {
            let sharer = Sharer::new(&[("a", &content), ("b", b"steady"), ("c", &content)]);
            let victim = sharer.path("a");
            if opened_before {
                let (_, outcomes) = sharer.read(vec![sharer.segment("a", 0, LEAF)], false);
                assert_eq!(outcomes, [Ok(None)]);
            }
            spoil(&victim, what);
            let segments = vec![
                sharer.segment("c", 0, LEAF),
                sharer.segment("a", u64::from(LEAF), LEAF),
                sharer.segment("b", 0, 6),
            ];
            let (payload, outcomes) = sharer.read(segments, true);
            assert_eq!(payload, [&content[..LEAF as usize], b"steady"].concat());
            assert_eq!(
                outcomes[1],
                Err(expected.clone()),
                "{what}, {opened_before}"
            );
            assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        }
    }
}

fn spoil(victim: &Path, what: &str) {
    let open = || fs::File::options().write(true).open(victim).unwrap();
    match what {
        "truncated" => open().set_len(u64::from(LEAF)).unwrap(),
        "grown" => open().set_len(u64::from(GROUP)).unwrap(),
        "touched" => open()
            .set_modified(SystemTime::now() + Duration::from_secs(1))
            .unwrap(),
        _ => {
            // Of the same size, so that only its modification time differs.
            let other = victim.with_file_name("other");
            fs::write(&other, bytes(3 * LEAF as usize)).unwrap();
            let later = SystemTime::now() + Duration::from_secs(1);
            fs::File::options()
                .write(true)
                .open(&other)
                .unwrap()
                .set_modified(later)
                .unwrap();
            fs::remove_file(victim).unwrap();
            match what {
                "removed" => {}
                "replaced" => fs::rename(&other, victim).unwrap(),
                "made a symlink" => symlink(&other, victim).unwrap(),
                "made a folder" => fs::create_dir(victim).unwrap(),
                _ => {
                    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
                    rustix::fs::mknodat(rustix::fs::CWD, victim, fifo, mode, 0).unwrap();
                }
            }
        }
    }
}

/// Threat: a folder of the share is swapped for a symlink to somewhere else.
#[test]
fn a_folder_that_became_a_symlink_is_not_followed_out() {
    let sharer = Sharer::new(&[("folder/file", b"shared")]);
    let outside = sharer.at.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // A file of the same size, with the same modification time.
    let modified = fs::metadata(sharer.path("folder/file"))
        .unwrap()
        .modified()
        .unwrap();
    fs::write(outside.join("file"), "secret").unwrap();
    fs::File::options()
        .write(true)
        .open(outside.join("file"))
        .unwrap()
        .set_modified(modified)
        .unwrap();
    fs::rename(sharer.path("folder"), sharer.at.path().join("moved")).unwrap();
    symlink(&outside, sharer.path("folder")).unwrap();
    let error = sharer.error(sharer.segment("folder/file", 0, 6));
    assert!(
        matches!(error, DiskError::Changed | DiskError::NotFound),
        "{error:?}"
    );
}

#[test]
fn more_files_than_may_be_open_are_read_piecewise_by_several_threads() {
    let names: Vec<String> = (0..100).map(|name| format!("{name:03}")).collect();
    let content = bytes(2 * LEAF as usize);
    let files: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), &content[..]))
        .collect();
    let sharer = Sharer::new(&files);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for offset in [0, u64::from(LEAF)] {
                    let segment = |name: &String| sharer.segment(name, offset, LEAF);
                    let (payload, outcomes) =
                        sharer.read(names.iter().map(segment).collect(), true);
                    assert!(outcomes.iter().all(Result::is_ok));
                    assert_eq!(payload.len(), 100 * LEAF as usize);
                }
            });
        }
    });
}

#[test]
fn a_forgotten_share_is_gone() {
    let sharer = Sharer::new(&[("a", b"a")]);
    assert!(matches!(
        sharer.disk.perform(DiskWork::Forget { share: SHARE }),
        DiskDone::Ok
    ));
    let segments = vec![sharer.segment("a", 0, 1)];
    let done = sharer.disk.perform(DiskWork::Read {
        share: SHARE,
        segments,
        hash: false,
    });
    assert!(matches!(done, DiskDone::Failed(DiskError::NotFound)));
}
