use std::process::Command;

use handover_test_needs::obeying_permissions;
use redb::ReadableTable;

use super::*;

const COUNTS: TableDefinition<&str, u64> = TableDefinition::new("counts");

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path());
    (folder, store)
}

fn count_up(store: &Store) -> Result<u64, StoreError> {
    store.write(|transaction| {
        let mut counts = transaction.open_table(COUNTS)?;
        let next = counts.get("calls")?.map_or(0, |count| count.value()) + 1;
        counts.insert("calls", next)?;
        Ok(next)
    })
}

fn count(store: &Store) -> Result<u64, StoreError> {
    store.read(|transaction| match table(transaction, COUNTS)? {
        Some(counts) => Ok(counts.get("calls")?.map_or(0, |count| count.value())),
        None => Ok(0),
    })
}

#[test]
fn what_was_written_is_there_in_the_next_run_and_only_the_owner_may_read_it() {
    let (folder, store) = store();
    assert_eq!(count(&store).unwrap(), 0);
    assert!(!store.path.exists(), "a look leaves nothing behind");
    count_up(&store).unwrap();
    count_up(&store).unwrap();
    assert_eq!(count(&Store::in_folder(folder.path())).unwrap(), 2);
    let mode = || store.path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&store.path, Permissions::from_mode(0o644)).unwrap();
    count(&store).unwrap();
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let (_folder, store) = store();
    count_up(&store).unwrap();
    let failed: Result<(), _> = store.write(|transaction| {
        transaction.open_table(COUNTS)?.insert("calls", 9)?;
        Err(StoreError::Busy(PathBuf::new()))
    });
    assert!(failed.is_err());
    assert_eq!(count(&store).unwrap(), 1);
}

/// Number of processes in which the test below runs itself, and of writes by each.
const PROCESSES: u64 = 3;
const CALLS: u64 = 6;
const FOLDER: &str = "HANDOVER_TEST_STORE";

#[test]
fn several_processes_and_threads_write_at_once_and_nothing_is_lost() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let mut store = Store::in_folder(Path::new(&folder));
        store.patience = Duration::from_mins(1);
        for _ in 0..CALLS {
            count_up(&store).unwrap();
        }
        return;
    }
    let (folder, mut store) = store();
    store.patience = Duration::from_mins(1);
    let this = "store::tests::several_processes_and_threads_write_at_once_and_nothing_is_lost";
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([this, "--exact"]).env(FOLDER, folder.path());
        command.spawn().unwrap()
    };
    let processes: Vec<_> = (0..PROCESSES).map(start).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    count_up(&store).unwrap();
                }
            });
        }
    });
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(count(&store).unwrap(), (PROCESSES + 2) * CALLS);
}

#[test]
fn who_finds_it_taken_for_long_is_told() {
    let (_folder, mut store) = store();
    count_up(&store).unwrap();
    store.patience = Duration::ZERO;
    let held = store.open().unwrap();
    let error = count(&store).unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)), "{error}");
    drop(held);
    assert_eq!(count(&store).unwrap(), 1);
}

#[test]
fn a_file_that_is_no_database_is_moved_aside_and_told_once() {
    let (folder, store) = store();
    std::fs::write(&store.path, "not a database at all".repeat(999)).unwrap();
    assert_eq!(count_up(&store).unwrap(), 1);
    let aside = folder.path().join("state.redb.damaged");
    assert_eq!(store.moved_aside(), Some(aside.clone()));
    assert_eq!(store.moved_aside(), None);
    assert!(std::fs::read(aside).unwrap().starts_with(b"not a database"));
    assert_eq!(count_up(&store).unwrap(), 2);
}

/// Wherever the file is damaged, the damage is detected or harmless.
#[test]
fn a_database_with_bytes_changed_or_cut_off_never_stands_in_the_way() {
    let (_folder, store) = store();
    for _ in 0..3 {
        count_up(&store).unwrap();
    }
    let whole = std::fs::read(&store.path).unwrap();
    let mut moved = 0;
    for step in 0..48 {
        let mut bytes = whole.clone();
        if step % 4 == 0 {
            bytes.truncate(whole.len() * step / 48);
        } else {
            // Most of the important data is in its first pages.
            let at = step * step * 23 % bytes.len().min(1 << 16);
            bytes[at..]
                .iter_mut()
                .take(64)
                .for_each(|byte| *byte ^= 0x5a);
        }
        std::fs::write(&store.path, bytes).unwrap();
        let counted = count_up(&store).unwrap();
        let aside = store.moved_aside().is_some();
        moved += u32::from(aside);
        assert!(
            counted == 1 || (counted == 4 && !aside),
            "{step}: {counted}"
        );
    }
    assert!(moved > 12, "{moved}");
}

#[test]
fn another_format_is_moved_aside() {
    let (_folder, store) = store();
    store
        .write(|transaction| {
            transaction
                .open_table(ABOUT)?
                .insert(FORMAT_ROW, FORMAT + 1)?;
            Ok(())
        })
        .unwrap();
    assert_eq!(count_up(&store).unwrap(), 1);
    assert!(store.moved_aside().is_some());
}

#[test]
fn a_folder_that_can_not_be_written_is_told_and_nothing_panics() {
    let (folder, _) = store();
    let file = folder.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let store = Store::in_folder(&file);
    let error = count_up(&store).unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");
    assert_eq!(count(&store).unwrap(), 0);
    let folder = folder.path().join("read-only");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o500)).unwrap();
    let counted = obeying_permissions(|| count_up(&Store::in_folder(&folder)));
    assert!(counted.is_err());
}

#[test]
fn records_ignore_what_they_do_not_know_and_what_is_no_record_is_skipped() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        name: String,
    }
    let row = Row {
        name: "laptop".to_string(),
    };
    assert_eq!(decode(&encode(&row)), Some(row));
    let more = br#"{"v":1,"name":"a","colour":"blue"}"#;
    assert_eq!(decode::<Row>(more).unwrap().name, "a");
    for bad in [
        &br#"{"v":2,"name":"a"}"#[..],
        br#"{"name":"a"}"#,
        b"{",
        b"\xff",
    ] {
        assert_eq!(decode::<Row>(bad), None);
    }
}
