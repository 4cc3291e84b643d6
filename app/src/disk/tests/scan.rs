//! What a scan lists, and what it leaves out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;

fn scan(paths: &[PathBuf]) -> Result<Scanned, DiskError> {
    scan_with(paths, Limits::default())
}

fn scan_with(paths: &[PathBuf], limits: Limits) -> Result<Scanned, DiskError> {
    let disk = Disk::new(limits, Arc::default());
    disk.register_share(SHARE, ShareInput::Paths(paths.to_vec()));
    match disk.perform(DiskWork::Scan { share: SHARE }) {
        DiskDone::Scanned(scanned) => Ok(scanned),
        DiskDone::Failed(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn names(scanned: &Scanned) -> Vec<&str> {
    scanned
        .entries
        .iter()
        .map(|entry| entry.path.as_str())
        .collect()
}

fn why<'a>(scanned: &'a Scanned, name: &str) -> &'a str {
    let found = scanned
        .skipped
        .iter()
        .find(|(skipped, _)| skipped.contains(name));
    &found
        .unwrap_or_else(|| panic!("{name} was not skipped: {scanned:?}"))
        .1
}

#[test]
fn a_folder_comes_before_its_content_and_names_are_in_order() {
    let at = tempfile::tempdir().unwrap();
    let root = at.path().join("mods");
    fs::create_dir_all(root.join("b/empty")).unwrap();
    for name in ["z", "b/y", "b.txt", "a"] {
        fs::write(root.join(name), name).unwrap();
    }
    let scanned = scan(&[root]).unwrap();
    assert_eq!(
        names(&scanned),
        [
            "mods",
            "mods/a",
            "mods/b",
            "mods/b/empty",
            "mods/b/y",
            "mods/b.txt",
            "mods/z"
        ]
    );
    assert!(scanned.skipped.is_empty());
    assert!(scanned.at.seconds > 1_600_000_000);
}

#[test]
fn sizes_modes_and_times_are_those_of_the_file_system() {
    let at = tempfile::tempdir().unwrap();
    let tool = at.path().join("tool");
    fs::write(&tool, "12345").unwrap();
    let before_1970 = UNIX_EPOCH - Duration::from_millis(1500);
    fs::File::options()
        .write(true)
        .open(&tool)
        .unwrap()
        .set_modified(before_1970)
        .unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4751)).unwrap();
    let scanned = scan(&[tool]).unwrap();
    let modified = Timestamp {
        seconds: -2,
        nanos: 500_000_000,
    };
    let kind = EntryKind::File {
        size: 5,
        mode: 0o751,
        modified,
    };
    assert_eq!(scanned.entries[0].kind, kind);
}

#[test]
fn what_is_given_has_a_name_or_is_refused() {
    let at = tempfile::tempdir().unwrap();
    fs::create_dir_all(at.path().join("mods/a")).unwrap();
    fs::write(at.path().join("mods/a/x"), "").unwrap();
    let above = scan(&[at.path().join("mods/a/..")]).unwrap();
    assert_eq!(names(&above), ["mods", "mods/a", "mods/a/x"]);
    let here = scan(&[at.path().join("mods/.")]).unwrap();
    assert_eq!(names(&here), names(&above));
    assert!(matches!(scan(&["/".into()]), Err(DiskError::Other(_))));
    let gone = scan(&["./no-such-thing".into()]).unwrap_err();
    assert_eq!(gone, DiskError::Other("./no-such-thing: not found".into()));
}

#[test]
fn the_same_name_twice_is_taken_once() {
    let at = tempfile::tempdir().unwrap();
    for folder in ["a", "b"] {
        fs::create_dir(at.path().join(folder)).unwrap();
        fs::write(at.path().join(folder).join("x"), folder).unwrap();
    }
    let scanned = scan(&[at.path().join("a/x"), at.path().join("b/x")]).unwrap();
    assert_eq!(names(&scanned), ["x"]);
    assert!(why(&scanned, "b/x").contains("already"));
}

#[test]
fn symlinks_inside_are_kept_and_those_that_lead_out_are_not() {
    let at = tempfile::tempdir().unwrap();
    let root = at.path().join("root");
    fs::create_dir_all(root.join("lib/deep")).unwrap();
    fs::write(root.join("lib/so.1"), "").unwrap();
    for (link, target) in [
        ("lib/so", "so.1"),
        ("lib/deep/up", "../so"),
        ("dangling", "lib/none"),
        ("dir", "lib"),
        ("through", "dir/so.1"),
        ("absolute", "/etc/passwd"),
        ("climbing", "../../etc/passwd"),
        ("beside", "../other"),
        ("top", ".."),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    let scanned = scan(&[root]).unwrap();
    assert_eq!(
        names(&scanned),
        [
            "root",
            "root/dangling",
            "root/dir",
            "root/lib",
            "root/lib/deep",
            "root/lib/deep/up",
            "root/lib/so",
            "root/lib/so.1",
        ]
    );
    let target = EntryKind::Symlink {
        target: "../so".into(),
    };
    assert_eq!(scanned.entries[5].kind, target);
    for name in ["absolute", "climbing", "beside", "top"] {
        assert!(why(&scanned, name).contains("points outside"), "{name}");
    }
    assert!(why(&scanned, "through").contains("through another"));
}

#[test]
fn files_after_a_dropped_symlink_keep_their_bytes() {
    let at = tempfile::tempdir().unwrap();
    let root = at.path().join("root");
    fs::create_dir(&root).unwrap();
    symlink("/etc", root.join("a")).unwrap();
    fs::write(root.join("b"), "bytes of b").unwrap();
    let disk = Disk::default();
    disk.register_share(SHARE, ShareInput::Paths(vec![root]));
    disk.perform(DiskWork::Scan { share: SHARE });
    let segments = vec![handover_core::engine::Segment {
        entry: 1,
        offset: 0,
        len: 10,
    }];
    let done = disk.perform(DiskWork::Read {
        share: SHARE,
        segments,
        hash: false,
    });
    assert!(matches!(done, DiskDone::Read { payload, .. } if payload == "bytes of b"));
}

#[test]
fn a_symlink_that_the_user_names_is_followed() {
    let at = tempfile::tempdir().unwrap();
    fs::create_dir(at.path().join("real")).unwrap();
    fs::write(at.path().join("real/file"), "x").unwrap();
    symlink("real", at.path().join("folder-link")).unwrap();
    symlink("real/file", at.path().join("file-link")).unwrap();
    let given = [at.path().join("folder-link"), at.path().join("file-link")];
    let scanned = scan(&given).unwrap();
    assert_eq!(
        names(&scanned),
        ["folder-link", "folder-link/file", "file-link"]
    );
    assert!(matches!(
        scanned.entries[2].kind,
        EntryKind::File { size: 1, .. }
    ));
}

#[test]
fn what_can_not_be_shared_is_named_with_a_reason() {
    let at = tempfile::tempdir().unwrap();
    let root = at.path().join("root");
    fs::create_dir(&root).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not\xffutf8")), "").unwrap();
    for name in ["CON", "back\\slash", "Read.me", "read.me", "ends."] {
        fs::write(root.join(name), "").unwrap();
    }
    let partial = root.join(format!("{}0123", super::super::staging::PARTIAL));
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("0"), "half").unwrap();
    let scanned = scan(&[root]).unwrap();
    assert_eq!(names(&scanned), ["root", "root/Read.me"]);
    assert!(why(&scanned, "fifo").contains("pipe"));
    assert!(why(&scanned, "socket").contains("socket"));
    assert!(why(&scanned, "not\u{fffd}utf8").contains("Unicode"));
    assert!(why(&scanned, "read.me").contains("case"));
    assert!(why(&scanned, "partial").contains("unfinished"));
    for name in ["CON", "back\\slash", "ends."] {
        why(&scanned, name);
    }
}

#[test]
fn a_device_as_such_is_skipped() {
    let scanned = scan(&["/dev/null".into()]).unwrap();
    assert!(scanned.entries.is_empty());
    assert!(why(&scanned, "null").contains("device"));
}

#[test]
fn the_limit_on_entries_holds_at_n_and_n_plus_one() {
    let at = tempfile::tempdir().unwrap();
    let root = at.path().join("root");
    fs::create_dir(&root).unwrap();
    for name in 0..9 {
        fs::write(root.join(name.to_string()), "").unwrap();
    }
    let limits = |manifest_entries| Limits {
        manifest_entries,
        ..Limits::default()
    };
    assert_eq!(
        scan_with(std::slice::from_ref(&root), limits(10))
            .unwrap()
            .entries
            .len(),
        10
    );
    assert!(matches!(
        scan_with(&[root], limits(9)),
        Err(DiskError::Other(_))
    ));
}

#[test]
fn twenty_thousand_files_are_listed_at_once() {
    let at = tempfile::tempdir().unwrap();
    let root = at.path().join("root");
    for folder in 0..20 {
        let folder = root.join(folder.to_string());
        fs::create_dir_all(&folder).unwrap();
        for name in 0..1000 {
            fs::File::create(folder.join(name.to_string())).unwrap();
        }
    }
    let start = Instant::now();
    assert_eq!(scan(&[root]).unwrap().entries.len(), 20_021);
    // About 50 ms without optimisation; the bound allows for busy machines.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}
