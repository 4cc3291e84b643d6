//! Tests of the identity file.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;

use handover_transports::identity::{FILE_NAME, load_or_create};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_made_once_for_the_owner_alone_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let made = load_or_create(&data).unwrap();
    assert_eq!(mode(&data.join(FILE_NAME)), 0o600);
    assert_eq!(mode(&data), 0o700);
    let found = load_or_create(&data).unwrap();
    assert_eq!(made.public(), found.public());
    assert_eq!(
        fs::read_dir(&data).unwrap().count(),
        1,
        "nothing is left over"
    );
}

#[test]
fn all_who_start_at_once_get_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let start = Barrier::new(8);
    let peers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    load_or_create(dir.path()).unwrap().public()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(peers.iter().all(|peer| *peer == peers[0]));
}

#[test]
fn a_damaged_one_is_an_error_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    for damage in [&b""[..], b"not a key", &[7; 5000]] {
        let _ = fs::remove_file(&file);
        load_or_create(dir.path()).unwrap();
        fs::write(&file, damage).unwrap();
        let error = load_or_create(dir.path()).unwrap_err();
        assert!(error.to_string().contains(FILE_NAME), "{error}");
        assert_eq!(fs::read(&file).unwrap(), damage);
    }
}

#[test]
fn one_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    load_or_create(dir.path()).unwrap();
    let file = dir.path().join(FILE_NAME);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = load_or_create(dir.path()).unwrap_err();
    assert!(error.to_string().contains("read by others"), "{error}");
}

#[test]
fn symlinks_and_folders_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    let elsewhere = dir.path().join("elsewhere");
    load_or_create(&elsewhere).unwrap();
    std::os::unix::fs::symlink(elsewhere.join(FILE_NAME), &file).unwrap();
    let error = load_or_create(dir.path()).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = load_or_create(dir.path()).unwrap_err();
    assert!(error.to_string().contains("plain file"), "{error}");
}

#[test]
fn a_dangling_symlink_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    std::os::unix::fs::symlink(&target, dir.path().join(FILE_NAME)).unwrap();
    load_or_create(dir.path()).unwrap_err();
    assert!(!target.exists());
}
