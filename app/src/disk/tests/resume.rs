//! What an earlier run has left, and a later one finds.

use handover_core::engine::{Groups, Kept, Record, Whole};
use handover_core::limits::GROUP;
use handover_core::merkle::{Hash, file_root, hash_group};

use super::*;

const G: usize = GROUP as usize;

/// A second run that downloads into the same folder.
fn again(receiver: &Receiver) -> Disk {
    let disk = Disk::default();
    disk.register_download(DOWNLOAD, DownloadTarget::Folder(receiver.root.clone()));
    disk
}

fn inspect(disk: &Disk, origin: Origin) -> Kept {
    match disk.perform(DiskWork::Inspect {
        download: DOWNLOAD,
        paths: Vec::new(),
        origin,
    }) {
        DiskDone::Inspected { kept, .. } => kept,
        other => panic!("{other:?}"),
    }
}

fn nodes(bytes: &[u8]) -> Vec<Hash> {
    bytes.chunks(G).map(hash_group).collect()
}

fn note(receiver: &Receiver, record: Record) {
    receiver.ok(DiskWork::Journal {
        download: DOWNLOAD,
        record,
    });
}

/// The first two of a file's three groups, staged, and their journal record.
fn half_way() -> (Receiver, Groups, Vec<u8>) {
    let receiver = Receiver::staged();
    let content = bytes(2 * G + 100);
    receiver.write(7, 0, &content[..G]);
    receiver.write(7, G as u64, &content[G..2 * G]);
    let groups = Groups {
        entry: 7,
        size: content.len() as u64,
        first: 0,
        nodes: nodes(&content[..2 * G]),
    };
    receiver.ok(DiskWork::Sync {
        download: DOWNLOAD,
        entries: vec![7],
    });
    let record = Record {
        groups: vec![groups.clone()],
        ..Record::default()
    };
    note(&receiver, record);
    (receiver, groups, content)
}

#[test]
fn another_run_goes_on_and_publishes_the_whole() {
    let (receiver, groups, content) = half_way();
    receiver.ok(DiskWork::Close { download: DOWNLOAD });
    let disk = again(&receiver);
    let kept = inspect(&disk, origin());
    assert_eq!(kept.groups, [groups]);
    assert!(kept.whole.is_empty() && kept.published.is_empty());
    let receiver = Receiver { disk, ..receiver };
    receiver.ok(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    receiver.write(7, 2 * G as u64, &content[2 * G..]);
    let published = receiver.publish(file(7, "a"));
    assert!(matches!(published, Ok(Published::At(_))), "{published:?}");
    assert_eq!(fs::read(receiver.root.join("a")).unwrap(), content);
    assert!(receiver.finish(Vec::new(), Vec::new()).is_empty());
    assert!(receiver.staging_folders().is_empty());
}

#[test]
fn what_is_of_something_else_or_in_use_is_not_found_and_stays() {
    let (receiver, ..) = half_way();
    let other = again(&receiver);
    assert_eq!(inspect(&other, origin()), Kept::default(), "it is in use");
    // Another download of the same files into the same folder uses its own staging folder, without a journal.
    let staged = other.perform(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    assert!(matches!(staged, DiskDone::Ok), "{staged:?}");
    let noted = other.perform(DiskWork::Journal {
        download: DOWNLOAD,
        record: Record::default(),
    });
    assert!(matches!(noted, DiskDone::Failed(_)), "{noted:?}");
    other.perform(DiskWork::Discard { download: DOWNLOAD });
    receiver.ok(DiskWork::Close { download: DOWNLOAD });
    let other = again(&receiver);
    assert_eq!(inspect(&other, origin_of("another share")), Kept::default());
    let staged = other.perform(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin_of("another share"),
    });
    assert!(matches!(staged, DiskDone::Ok), "{staged:?}");
    other.perform(DiskWork::Discard { download: DOWNLOAD });
    assert!(!inspect(&again(&receiver), origin()).is_empty());
}

#[test]
fn a_staging_file_that_lost_its_end_is_believed_as_far_as_it_goes() {
    let (receiver, groups, _) = half_way();
    receiver.ok(DiskWork::Close { download: DOWNLOAD });
    let staged = receiver.staging_folders().remove(0).join("0/7");
    let file = fs::OpenOptions::new().write(true).open(&staged).unwrap();
    file.set_len(2 * G as u64 - 1).unwrap();
    let kept = inspect(&again(&receiver), origin());
    assert_eq!(kept.groups[0].nodes, groups.nodes[..1]);
    fs::remove_file(&staged).unwrap();
    assert!(inspect(&again(&receiver), origin()).is_empty());
}

#[test]
fn a_file_whose_run_ended_between_its_name_and_its_note_is_found_by_its_content() {
    let receiver = Receiver::staged();
    fs::write(receiver.root.join("a"), "mine").unwrap();
    let whole = |entry, name: &str, content: &[u8]| Whole {
        entry,
        path: path(name),
        size: content.len() as u64,
        root: file_root(content),
    };
    for (entry, content) in [(1, "first"), (2, "second"), (3, "third")] {
        receiver.write(entry, 0, content.as_bytes());
    }
    note(
        &receiver,
        Record {
            whole: vec![
                whole(1, "a", b"first"),
                whole(2, "b", b"second"),
                whole(3, "c", b"third"),
            ],
            ..Record::default()
        },
    );
    let renamed = receiver.publish(PublishFile {
        on_conflict: OnConflict::Rename,
        ..file(1, "a")
    });
    assert!(matches!(renamed, Ok(Published::At(at)) if at.as_str() == "a (1)"));
    receiver.publish(file(2, "b")).unwrap();
    receiver.ok(DiskWork::Close { download: DOWNLOAD });
    let kept = inspect(&again(&receiver), origin());
    assert_eq!(
        (kept.whole, kept.published),
        (vec![(3, file_root(b"third"))], vec![1, 2])
    );
    fs::write(receiver.root.join("b"), "SECOND").unwrap();
    assert_eq!(inspect(&again(&receiver), origin()).published, [1]);
}

#[test]
fn a_journal_that_is_damaged_is_as_good_as_none() {
    let (receiver, ..) = half_way();
    receiver.ok(DiskWork::Close { download: DOWNLOAD });
    let journal = receiver.staging_folders().remove(0).join("journal");
    fs::write(&journal, "no database").unwrap();
    let disk = again(&receiver);
    assert!(inspect(&disk, origin()).is_empty());
    let receiver = Receiver { disk, ..receiver };
    receiver.ok(DiskWork::Stage {
        download: DOWNLOAD,
        origin: origin(),
    });
    note(&receiver, Record::default());
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
    assert!(receiver.staging_folders().is_empty());
}
