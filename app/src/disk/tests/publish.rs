//! Final names: what happens to existing files there, and with which attributes files arrive.

use std::time::{Duration, Instant};

use super::super::attributes::umask;
use super::*;

fn with(policy: OnConflict, file: PublishFile) -> PublishFile {
    PublishFile {
        on_conflict: policy,
        ..file
    }
}

/// Threat: silent overwrite. The name appears between the inspection and publishing.
#[test]
fn a_name_that_was_taken_meanwhile_is_treated_as_agreed() {
    for (policy, outcome, old, new) in [
        (OnConflict::Skip, Ok(Published::Skipped), "old", None),
        (OnConflict::Rename, at("d/file (1).txt"), "old", Some("new")),
        (OnConflict::Overwrite, at("d/file.txt"), "new", None),
    ] {
        let receiver = Receiver::new();
        assert!(receiver.inspect(&["d/file.txt"]).0.is_empty());
        receiver.ok(DiskWork::Stage {
            download: DOWNLOAD,
            origin: origin(),
        });
        receiver.write(0, 0, b"new");
        fs::create_dir(receiver.root.join("d")).unwrap();
        fs::write(receiver.root.join("d/file.txt"), "old").unwrap();
        assert_eq!(
            receiver.publish(with(policy, file(0, "d/file.txt"))),
            outcome
        );
        assert_eq!(receiver.read("d/file.txt"), old);
        let second = fs::read_to_string(receiver.root.join("d/file (1).txt")).ok();
        assert_eq!(second.as_deref(), new);
        // Nothing of it is left in the staging folder.
        let staging = &receiver.staging_folders()[0];
        assert!(!staging.join("0/0").exists());
    }
}

#[test]
fn names_are_numbered_until_one_is_free() {
    let receiver = Receiver::staged();
    let taken = ["a.txt", "a (1).txt", "a (2).txt"];
    for name in taken {
        fs::write(receiver.root.join(name), name).unwrap();
    }
    receiver.write(0, 0, b"new");
    let published = receiver.publish(with(OnConflict::Rename, file(0, "a.txt")));
    assert_eq!(published, at("a (3).txt"));
    for name in taken {
        assert_eq!(receiver.read(name), name);
    }
}

#[test]
fn many_publishers_of_one_name_lose_nothing() {
    let receiver = Receiver::staged();
    std::thread::scope(|threads| {
        for entry in 0..16 {
            let receiver = &receiver;
            threads.spawn(move || {
                receiver.write(entry, 0, format!("{entry}").as_bytes());
                receiver
                    .publish(with(OnConflict::Rename, file(entry, "x/y/same")))
                    .unwrap();
            });
        }
    });
    let mut found: Vec<u32> = fs::read_dir(receiver.root.join("x/y"))
        .unwrap()
        .map(|entry| {
            fs::read_to_string(entry.unwrap().path())
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..16).collect::<Vec<_>>());
}

#[test]
fn a_folder_in_the_way_is_never_replaced() {
    let receiver = Receiver::staged();
    fs::create_dir(receiver.root.join("name")).unwrap();
    receiver.write(0, 0, b"x");
    let overwritten = receiver.publish(with(OnConflict::Overwrite, file(0, "name")));
    assert!(matches!(overwritten, Err(DiskError::Other(why)) if why.contains("folder")));
    // It is still staged, and can be published under another name.
    assert_eq!(
        receiver.publish(with(OnConflict::Rename, file(0, "name"))),
        at("name (1)")
    );
}

#[test]
fn a_file_where_a_folder_should_be_is_an_error_that_names_it() {
    let receiver = Receiver::staged();
    fs::write(receiver.root.join("a"), "old").unwrap();
    for policy in [OnConflict::Skip, OnConflict::Rename, OnConflict::Overwrite] {
        receiver.write(0, 0, b"x");
        let published = receiver.publish(with(policy, file(0, "a/b/c")));
        assert!(
            matches!(published, Err(DiskError::Other(why)) if why.starts_with("a is in the way"))
        );
    }
    assert_eq!(receiver.read("a"), "old");
}

#[test]
fn modes_and_times_arrive_as_they_were_sent() {
    let receiver = Receiver::staged();
    let cases = [
        ("plain", 0o644, 0, 0),
        ("tool", 0o755, 915_148_800, 123_456_789),
        ("sealed", 0o000, -315_619_200, 999_999_999),
        ("open", 0o777, 4_102_444_800, 1),
        ("setuid", 0o4755, 1, 1),
    ];
    // One by one, and many at once, which syncs in a different way.
    for copies in [1, 20] {
        for (number, (name, mode, seconds, nanos)) in cases.into_iter().enumerate() {
            let first = u32::try_from(number).unwrap() * 100 + copies * 1000;
            let files = (first..first + copies).map(|entry| {
                assert!(matches!(receiver.write(entry, 0, b"x"), DiskDone::Ok));
                let modified = Timestamp { seconds, nanos };
                PublishFile {
                    mode,
                    modified,
                    ..file(entry, &format!("{copies}/{name}{entry}"))
                }
            });
            receiver
                .publish_all(files.collect())
                .into_iter()
                .for_each(|outcome| drop(outcome.unwrap()));
            for entry in first..first + copies {
                let found = receiver.root.join(format!("{copies}/{name}{entry}"));
                let found = found.metadata().unwrap();
                assert_eq!(found.mode() & 0o7777, mode & 0o777 & !umask(), "{name}");
                assert_eq!(
                    (found.mtime(), found.mtime_nsec()),
                    (seconds, i64::from(nanos))
                );
            }
        }
    }
}

#[test]
fn an_empty_file_needs_no_bytes() {
    let receiver = Receiver::staged();
    assert_eq!(receiver.publish(file(5, "deep/empty")), at("deep/empty"));
    assert_eq!(receiver.read("deep/empty"), "");
    assert!(matches!(receiver.write(6, 0, b""), DiskDone::Ok));
    assert_eq!(receiver.publish(file(6, "empty")), at("empty"));
}

#[test]
fn names_in_all_scripts_and_of_full_length_arrive() {
    let receiver = Receiver::staged();
    let long = "ü".repeat(127) + "x";
    let names = [
        "Ελληνικά",
        "русский",
        "中文文件",
        "日本語ファイル",
        "한국어",
        "العربية",
        "עברית",
        "हिन्दी",
        "ไทย",
        "👩‍👩‍👧‍👦",
        "e\u{301}",
        "spaces in it",
        "-rf",
        "~",
        "$HOME",
        "'quoted'",
        "semi;colon",
        &long,
    ];
    for (entry, name) in (0..).zip(names) {
        assert_eq!(receiver.receive(entry, name, name), at(name));
        assert_eq!(receiver.read(name), name);
    }
    assert_eq!(long.len(), 255);
    receiver.write(100, 0, b"second");
    let renamed = receiver
        .publish(with(OnConflict::Rename, file(100, &long)))
        .unwrap();
    let Published::At(renamed) = renamed else {
        panic!()
    };
    assert_eq!(receiver.read(renamed.as_str()), "second");
}

#[test]
fn one_file_that_fails_does_not_take_the_others_with_it() {
    let receiver = Receiver::staged();
    fs::write(receiver.root.join("a"), "old").unwrap();
    for entry in 0..20 {
        receiver.write(entry, 0, b"x");
    }
    let name = |entry| {
        if entry == 7 {
            "a/b".to_owned()
        } else {
            format!("f{entry}")
        }
    };
    let outcomes = receiver.publish_all((0..20).map(|entry| file(entry, &name(entry))).collect());
    let failed: Vec<_> = (0..20).filter(|entry| outcomes[*entry].is_err()).collect();
    assert_eq!(failed, [7]);
}

#[test]
fn a_sealed_file_whose_publishing_failed_can_be_tried_again() {
    let receiver = Receiver::staged();
    fs::write(receiver.root.join("a"), "in the way").unwrap();
    receiver.write(0, 0, b"x");
    let sealed = PublishFile {
        mode: 0o000,
        ..file(0, "a/b")
    };
    assert!(receiver.publish(sealed.clone()).is_err());
    fs::remove_file(receiver.root.join("a")).unwrap();
    assert_eq!(receiver.publish(sealed), at("a/b"));
}

#[test]
fn ten_thousand_small_files_are_published_quickly() {
    let receiver = Receiver::staged();
    let start = Instant::now();
    let content = Bytes::from(vec![7; 4096]);
    for batch in 0..100 {
        let entries = batch * 100..(batch + 1) * 100;
        let piece = |entry| Piece {
            entry,
            offset: 0,
            data: content.clone(),
        };
        let pieces = entries.clone().map(piece).collect();
        receiver.ok(DiskWork::Write {
            download: DOWNLOAD,
            pieces,
        });
        let files = entries
            .map(|entry| file(entry, &format!("{batch}/{entry}")))
            .collect();
        assert!(receiver.publish_all(files).iter().all(Result::is_ok));
    }
    // Half a second on a RAM disk; a real one waits for its syncs.
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    assert!(receiver.finish(vec![], vec![]).is_empty());
    assert_eq!(tree(&receiver.root).len(), 10_100);
}
