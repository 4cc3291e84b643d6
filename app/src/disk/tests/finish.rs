//! Folders, symlinks, and that no staging data is left over.

use std::os::unix::fs::symlink as plant;

use super::super::attributes::umask;
use super::*;

#[test]
fn folders_get_their_attributes_when_all_is_in_them() {
    let receiver = Receiver::staged();
    assert_eq!(
        receiver.receive(0, "sealed/deep/file", "x"),
        at("sealed/deep/file")
    );
    let sealed = PublishFolder {
        mode: 0o500,
        modified: time(-5),
        ..folder("sealed")
    };
    let deep = PublishFolder {
        mode: 0o770,
        modified: time(0),
        ..folder("sealed/deep")
    };
    let empty = PublishFolder {
        mode: 0o711,
        modified: time(915_148_800),
        ..folder("empty")
    };
    assert_eq!(receiver.finish(vec![sealed, deep, empty], vec![]), []);
    for (name, mode, seconds) in [
        ("sealed", 0o500, -5),
        ("sealed/deep", 0o770, 0),
        ("empty", 0o711, 915_148_800),
    ] {
        let metadata = receiver.root.join(name).metadata().unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime()),
            (mode & !umask(), seconds),
            "{name}"
        );
    }
    assert!(receiver.staging_folders().is_empty());
    receiver.assert_canary();
    // With its present mode, only root could remove its content.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(receiver.root.join("sealed"), open).unwrap();
}

#[test]
fn a_folder_that_the_user_had_keeps_its_mode() {
    let receiver = Receiver::staged();
    fs::create_dir(receiver.root.join("mine")).unwrap();
    let before = receiver.root.join("mine").metadata().unwrap().mode();
    let open = PublishFolder {
        mode: 0o777,
        ..folder("mine")
    };
    assert_eq!(receiver.finish(vec![open], vec![]), []);
    assert_eq!(
        receiver.root.join("mine").metadata().unwrap().mode(),
        before
    );
}

#[test]
fn symlinks_are_made_and_conflicts_are_solved_as_agreed() {
    let receiver = Receiver::staged();
    receiver.receive(0, "lib/so.1", "x").unwrap();
    for name in ["skipped", "renamed", "replaced", "replaced-link"] {
        fs::write(receiver.root.join(name), "old").unwrap();
    }
    fs::remove_file(receiver.root.join("replaced-link")).unwrap();
    plant(
        receiver.canary().join("secret"),
        receiver.root.join("replaced-link"),
    )
    .unwrap();
    fs::create_dir(receiver.root.join("folder")).unwrap();
    let with = |policy, name| PublishSymlink {
        on_conflict: policy,
        ..symlink(name, "lib/so.1")
    };
    let failed = receiver.finish(
        vec![],
        vec![
            symlink("lib/so", "so.1"),
            with(OnConflict::Skip, "skipped"),
            with(OnConflict::Rename, "renamed"),
            with(OnConflict::Overwrite, "replaced"),
            with(OnConflict::Overwrite, "replaced-link"),
            with(OnConflict::Overwrite, "folder"),
        ],
    );
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, path("folder"));
    let found = receiver.tree();
    let is = |name: &str| found[Path::new(name)].clone();
    assert_eq!(is("lib/so"), "-> so.1");
    assert!(is("skipped").ends_with("old") && is("renamed").ends_with("old"));
    for name in ["renamed (1)", "replaced", "replaced-link"] {
        assert_eq!(is(name), "-> lib/so.1");
    }
    receiver.assert_canary();
    assert!(receiver.staging_folders().is_empty());
}

#[test]
fn symlinks_that_lead_out_are_refused_here_too() {
    let receiver = Receiver::staged();
    let out = ["/etc/passwd", "../canary/secret", "a/../../canary"];
    let symlinks = (0..)
        .zip(out)
        .map(|(n, target): (u32, _)| symlink(&format!("l{n}"), target));
    let failed = receiver.finish(vec![], symlinks.collect());
    assert_eq!(failed.len(), 3);
    assert!(
        failed
            .iter()
            .all(|(_, error)| matches!(error, DiskError::Escape(_)))
    );
    assert!(tree(&receiver.root).is_empty());
}

#[test]
fn a_finished_download_is_forgotten() {
    let receiver = Receiver::staged();
    receiver.finish(vec![], vec![]);
    assert!(matches!(
        receiver.write(0, 0, b"x"),
        DiskDone::Failed(DiskError::NotFound)
    ));
    receiver.ok(DiskWork::Discard { download: DOWNLOAD });
}
