//! Files that an earlier run staged and that no journal covers, because it is lost or damaged. They are set aside in
//! the staging folder. What in them is right is found as with an older version of a file under its final name: a whole
//! file by its root, parts of a file by their chunks.

use std::io;

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

/// Subfolder of a staging folder for these files, under the same relative paths.
pub(super) const OLDER: &str = "older";

/// Sets aside all files of a staging folder and removes its journal. Returns true if any are set aside, now or from
/// earlier.
pub(super) fn set_aside(staging: &Dir, journal: &str) -> io::Result<bool> {
    match rustix::fs::mkdirat(staging, OLDER, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    for name in numbers(staging)? {
        let to = format!("{OLDER}/{name}");
        match rustix::fs::renameat(staging, &name, staging, &to) {
            Ok(()) => {}
            // Some were set aside before. The newer file contains whatever of the older one was reused.
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                for file in numbers(&staging.open_dir(&name)?)? {
                    let (from, to) = (format!("{name}/{file}"), format!("{to}/{file}"));
                    rustix::fs::renameat(staging, from, staging, to)?;
                }
                rustix::fs::unlinkat(staging, &name, AtFlags::REMOVEDIR)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    match rustix::fs::unlinkat(staging, journal, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(!numbers(&staging.open_dir(OLDER)?)?.is_empty())
}

/// The names in a folder that are numbers, as those of staging files and their folders are.
fn numbers(folder: &Dir) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.entries()? {
        let name = entry?.file_name().into_string();
        names.extend(name.ok().filter(|name| name.parse::<u32>().is_ok()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn staging_files_are_set_aside_and_the_later_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(!set_aside(&dir, "journal").unwrap());
        let write = |name: &str, text: &str| {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        };
        write("0/1", "first");
        write("0/2", "first");
        write("1/1000", "first");
        write("journal", "damaged");
        write("lock", "");
        assert!(set_aside(&dir, "journal").unwrap());
        assert!(!at("0").exists() && !at("journal").exists() && at("lock").exists());
        write("0/2", "second");
        write("2/2000", "second");
        assert!(set_aside(&dir, "journal").unwrap());
        let read = |name: &str| fs::read_to_string(at("older").join(name)).unwrap();
        assert_eq!(read("0/1"), "first");
        assert_eq!(read("0/2"), "second");
        assert_eq!(read("1/1000"), "first");
        assert_eq!(read("2/2000"), "second");
        assert!(!at("0").exists() && !at("2").exists());
    }
}
