//! Where received files are placed, and which of those paths a system reads by itself.
//!
//! A name that begins with a dot is harmless inside a share's own folder. What counts is the final path: files that a
//! shell, a session, a scheduler, an installer or a command lookup reads without being told to must not come from
//! somebody else's share unasked.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use handover_core::manifest::{Entry, EntryKind};
use handover_core::path::{self, SafePath};

/// Folders below a home folder whose whole content is read automatically, in lower case.
const BELOW_HOME: &[&str] = &[
    // Keys and authorised logins; each of these is run or trusted by a program that logs users in.
    ".ssh",
    ".gnupg",
    // Sessions: the XDG autostart specification, systemd's user units, files that desktops run.
    ".config/autostart",
    ".config/autostart-scripts",
    ".config/plasma-workspace",
    ".config/systemd",
    ".config/environment.d",
    ".local/share/systemd",
    ".local/share/dbus-1",
    ".local/share/applications",
    // Folders that shells read completely.
    ".config/fish",
    ".bashrc.d",
    ".zshrc.d",
    // On the search path for commands, before the system's folders.
    "bin",
    ".local/bin",
    ".cargo/bin",
    "go/bin",
    // The nodes and relays that handover's next run starts with.
    ".local/share/handover",
    // macOS.
    "library/launchagents",
    "library/launchdaemons",
    "library/scripts",
    // Windows.
    "appdata/roaming/microsoft/windows/start menu/programs/startup",
    "documents/windowspowershell",
    "documents/powershell",
];

/// Folders of the system whose whole content is read automatically.
const OF_THE_SYSTEM: &[&str] = &[
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib64",
    "/sbin",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/sbin",
    "/var/spool/cron",
    "/opt/homebrew/bin",
    "/opt/homebrew/lib",
    "/opt/homebrew/sbin",
    "/library/launchagents",
    "/library/launchdaemons",
    "/library/startupitems",
    "/system",
    "/programdata/microsoft/windows/start menu/programs/startup",
    "/windows",
];

/// Folders that contain the users' home folders.
const HOMES: &[&str] = &["home", "users"];

/// The folder that a share's entries are placed in: `target`, or the share's own folder below it.
pub fn place(target: &Path, folder: Option<&SafePath>) -> PathBuf {
    folder.map_or_else(|| target.to_path_buf(), |own| target.join(own.as_str()))
}

/// A folder that files are received into.
#[derive(Debug, Clone)]
pub struct Landing {
    /// Absolute, with symbolic links resolved as far as the path exists.
    folder: PathBuf,
    /// The user's home folder, resolved the same way.
    home: Option<PathBuf>,
}

impl Landing {
    /// A landing below this folder, for the user who runs this program.
    pub fn below(folder: &Path) -> Self {
        Self::with_home(folder, std::env::home_dir().as_deref())
    }

    fn with_home(folder: &Path, home: Option<&Path>) -> Self {
        Self {
            folder: resolved(folder),
            home: home.map(resolved),
        }
    }

    /// True if some program would read this entry unasked if it were placed here. Folders have no content to read.
    pub fn reads_by_itself(&self, entry: &Entry) -> bool {
        let is_folder = matches!(entry.kind, EntryKind::Folder { .. });
        !is_folder && self.is_read_by_itself(entry.path.as_str())
    }

    /// True if some program would read a file at this path of a share unasked. `path` has components separated by `/`,
    /// none of which leads out of the folder.
    pub fn is_read_by_itself(&self, path: &str) -> bool {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut at = self.folder.clone();
        for part in &parts {
            // Here the share chooses the name directly in the home folder. If the user chose it, that is their own
            // decision.
            if path::fold(part).starts_with('.') && self.is_home(&at) {
                return true;
            }
            at.push(part);
        }
        self.is_in_table(&at)
    }

    fn is_home(&self, folder: &Path) -> bool {
        let folder = parts_of(folder);
        let own = self.home.as_deref().map(parts_of);
        own.is_some_and(|own| own == folder) || is_some_home(&folder)
    }

    fn is_in_table(&self, path: &Path) -> bool {
        let whole = parts_of(path);
        let own = self.home.as_deref().map(parts_of);
        let below_own = own.and_then(|own| whole.strip_prefix(own.as_slice()));
        let below_own = below_own.map(<[String]>::to_vec);
        let mut homes = below_own.into_iter().chain(below_some_home(&whole));
        let is_in = |table: &[&str], parts: &[String]| table.iter().any(|it| is_below(parts, it));
        homes.any(|below| is_in(BELOW_HOME, &below)) || is_in(OF_THE_SYSTEM, &whole)
    }
}

/// The components of a path, folded as by file systems that treat some letters as equal; without a drive, and without
/// `/private`, where macOS keeps `/etc` and `/var`.
fn parts_of(path: &Path) -> Vec<String> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(small(name)),
        _ => None,
    };
    let mut parts: Vec<_> = path.components().filter_map(part).collect();
    if parts.first().is_some_and(|first| first == "private") {
        parts.remove(0);
    }
    parts
}

fn small(name: &OsStr) -> String {
    path::fold(&name.to_string_lossy())
}

/// True for `/root`, `/home/somebody` and `/Users/somebody`.
fn is_some_home(parts: &[String]) -> bool {
    match parts {
        [root] => root == "root",
        [homes, _] => HOMES.contains(&homes.as_str()),
        _ => false,
    }
}

fn below_some_home(parts: &[String]) -> Option<Vec<String>> {
    let depth = (1..=2).find(|depth| parts.get(..*depth).is_some_and(is_some_home))?;
    Some(parts[depth..].to_vec())
}

/// True if the path is this folder of a table, or lies below it.
fn is_below(parts: &[String], folder: &str) -> bool {
    let mut folder = folder.split('/').filter(|part| !part.is_empty());
    let mut parts = parts.iter();
    folder.all(|part| parts.next().is_some_and(|own| own == part))
}

/// The path with symbolic links resolved as far as it exists; the rest is unchanged.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return real.join(rest);
        }
    }
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn is_read(folder: &str, path: &str) -> bool {
        let landing = Landing {
            folder: folder.into(),
            home: Some("/srv/people/ann".into()),
        };
        landing.is_read_by_itself(path)
    }

    #[test]
    fn what_is_read_by_itself_is_told_by_its_final_path() {
        for (folder, path) in [
            ("/srv/people/ann", ".ssh/authorized_keys"),
            ("/srv/people/ann", ".bash_profile"),
            ("/srv/people/ann", ".config/autostart/a.desktop"),
            ("/srv/people/ann", ".anything"),
            ("/srv/people/ann", "bin/ls"),
            ("/srv/people/ann", ".local/bin/ls"),
            ("/srv/people", "ann/.profile"),
            ("/", "srv/people/ann/.profile"),
            ("/srv/people/ann/.ssh", "authorized_keys"),
            ("/srv/people/ann/.local/share", "handover/config.toml"),
            ("/srv/people/ann/.config", "autostart/a.desktop"),
            ("/srv/people/ann", "Library/LaunchAgents/a.plist"),
            ("/home/bob", ".zshrc"),
            ("/home/bob/.ssh", "rc"),
            ("/Users/bob", "Library/LaunchAgents/a.plist"),
            (
                "/Users/bob/AppData/Roaming/Microsoft/Windows",
                "Start Menu/Programs/Startup/a.bat",
            ),
            ("/root", ".profile"),
            ("/", "etc/cron.d/a"),
            ("/etc", "profile.d/a.sh"),
            ("/var/spool", "cron/crontabs/ann"),
            ("/usr", "local/bin/ls"),
            ("/opt/homebrew", "bin/ls"),
            ("/private/etc", "profile.d/a.sh"),
            // Some file systems treat these as equal to names in the table.
            ("/Users/bob", "Library/LaunchAgent\u{17f}/a.plist"),
            ("/Users/bob", "Library/Launch\u{200d}Agents/a.plist"),
            ("/Users/bob", "\u{200c}.ssh/authorized_keys"),
            ("/srv/people", "ANN/.profile"),
        ] {
            assert!(is_read(folder, path), "{folder} {path}");
        }
    }

    #[test]
    fn source_trees_and_folders_of_one_s_own_are_left_alone() {
        for (folder, path) in [
            ("/srv/people/ann", "project/.gitignore"),
            ("/srv/people/ann", "project/.github/workflows/a.yml"),
            ("/srv/people/ann", "backup/.ssh/authorized_keys"),
            ("/srv/people/ann/project", ".gitignore"),
            ("/srv/people/ann/.minecraft", "mods/a.jar"),
            ("/srv/people/ann/.minecraft", ".index/a"),
            ("/srv/people/ann", "binary/a"),
            ("/srv/people/ann", "photos/bin/a"),
            ("/home/bob/music", ".cover.jpg"),
            ("/home", "readme"),
            ("/tmp", ".hidden"),
            ("/tmp", "etc/passwd"),
            ("/media/usb", ".Trash-1000/a"),
        ] {
            assert!(!is_read(folder, path), "{folder} {path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_home_folder_hides_nothing() {
        let scene = tempfile::tempdir().unwrap();
        let home = scene.path().join("people/ann");
        std::fs::create_dir_all(&home).unwrap();
        let link = scene.path().join("link");
        std::os::unix::fs::symlink(&home, &link).unwrap();
        let landing = Landing::with_home(&link, Some(&home));
        assert!(landing.is_read_by_itself(".profile"));
        let landing = Landing::with_home(&link.join("new"), Some(&home));
        assert!(!landing.is_read_by_itself(".profile"));
        let landing = Landing::with_home(&home, Some(&link));
        assert!(landing.is_read_by_itself(".profile"));
    }
}
