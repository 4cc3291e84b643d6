//! Reading back received data, to serve it.

use std::os::unix::fs::symlink as plant;

use handover_core::engine::{GroupHash, Located, Segment};
use handover_core::limits::{GROUP, LEAF};
use handover_core::merkle::{RangeHash, hash_group};

use super::*;

fn kept(offset: u64, len: u32, path: Option<&str>) -> Located {
    let entry = 0;
    Located {
        segment: Segment { entry, offset, len },
        path: path.map(|path| SafePath::parse(path).unwrap()),
    }
}

fn read(receiver: &Receiver, kept: Located) -> Result<(Bytes, GroupHash), DiskError> {
    let work = DiskWork::ReadBack {
        download: DOWNLOAD,
        segments: vec![kept],
    };
    match receiver.disk.perform(work) {
        DiskDone::Read {
            payload,
            mut segments,
        } => segments.remove(0).map(|hash| (payload, hash.unwrap())),
        DiskDone::Failed(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

#[test]
fn a_group_is_read_from_its_staging_file_and_then_from_where_it_stands() {
    let receiver = Receiver::staged();
    let all = bytes(GROUP as usize + 5);
    let (first, last) = all.split_at(GROUP as usize);
    assert!(matches!(
        receiver.write(0, GROUP.into(), last),
        DiskDone::Ok
    ));
    let (read_last, hash) = read(&receiver, kept(GROUP.into(), 5, None)).unwrap();
    assert_eq!((&read_last[..], hash.hash), (last, hash_group(last)));

    assert!(matches!(receiver.write(0, 0, first), DiskDone::Ok));
    assert_eq!(receiver.publish(file(0, "a/f")), at("a/f"));
    assert!(read(&receiver, kept(0, GROUP, None)).is_err());
    let (leaf, hash) = read(&receiver, kept(LEAF.into(), LEAF, Some("a/f"))).unwrap();
    let leaf_at = LEAF as usize;
    assert_eq!(leaf, first[leaf_at..2 * leaf_at]);
    assert_eq!(hash.hash, hash_group(first));
    assert_eq!(hash.inner, RangeHash::of(first).proof(LEAF, LEAF));
}

#[test]
fn what_is_kept_is_read_after_the_end_and_not_removed_with_the_download() {
    let receiver = Receiver::staged();
    assert_eq!(receiver.receive(0, "f", "bytes"), at("f"));
    let keep = true;
    let finished = receiver.disk.perform(DiskWork::Finish {
        download: DOWNLOAD,
        folders: vec![folder("empty")],
        symlinks: vec![],
        keep,
    });
    assert!(matches!(finished, DiskDone::Finished { failed } if failed.is_empty()));
    assert_eq!(read(&receiver, kept(0, 5, Some("f"))).unwrap().0, "bytes");
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
    assert!(receiver.root.join("empty").is_dir() && receiver.root.join("f").is_file());
    assert!(read(&receiver, kept(0, 5, Some("f"))).is_err());
}

#[test]
fn what_has_become_a_symlink_a_folder_or_shorter_is_not_read() {
    let receiver = Receiver::staged();
    assert_eq!(receiver.receive(0, "f", "mine"), at("f"));
    let place = receiver.root.join("f");
    assert!(read(&receiver, kept(0, 4, Some("f"))).is_ok());
    fs::write(&place, "m").unwrap();
    assert!(read(&receiver, kept(0, 4, Some("f"))).is_err());
    fs::remove_file(&place).unwrap();
    plant(receiver.canary().join("secret"), &place).unwrap();
    assert!(read(&receiver, kept(0, 4, Some("f"))).is_err());
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    assert!(read(&receiver, kept(0, 4, Some("f"))).is_err());
    receiver.assert_canary();
}
