//! Enters namespaces: this process starts itself again inside them, with the `unshare` program.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{FOR_ROOT, IP, missing};

/// Set in the process that is inside.
const INSIDE: &str = "HANDOVER_TEST_NAMESPACES";

/// Preparation needed by `ip netns` and by tests on loopback.
const PREPARE: &str = "mount -t tmpfs none /run && ip link set lo up";

/// Returns `Ok` inside the namespaces, and otherwise why they cannot be entered.
pub(super) fn enter() -> Result<(), String> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    if let Some(words) = missing(IP) {
        return Err(words);
    }
    let probe = unshare(PREPARE).stdin(Stdio::null()).output();
    let probe = probe.map_err(|_| "no program unshare: install util-linux".to_owned())?;
    if !probe.status.success() {
        let words = String::from_utf8_lossy(&probe.stderr);
        let words = words.lines().next().unwrap_or_default();
        return Err(format!(
            "namespaces can't be made here ({words}): run it as root, or let users make them (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
        ));
    }
    let mut inside = unshare(&format!("{PREPARE} && exec \"$0\" \"$@\""));
    let this = env::current_exe().map_err(|error| error.to_string())?;
    inside.arg(this).args(env::args_os().skip(1));
    Err(inside.env(INSIDE, "1").exec().to_string())
}

/// A shell that runs this script in new namespaces.
fn unshare(script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--mount", "sh", "-c", script]);
    unshare.env("PATH", path());
    unshare
}

/// The search path for programs, including root's.
fn path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOR_ROOT.map(PathBuf::from));
    env::join_paths(folders).unwrap_or(path)
}
