//! Shares that resume under the same code after their process ended unexpectedly: their stored state, and a lock for
//! the process that serves them.

use std::fs::File;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use handover::store::{Begun, OpenShare, ShortCodes};
use handover_core::PeerId;
use handover_core::code::ShareCode;
use handover_core::engine::{ShareOptions, Short};
use handover_core::limits::Limits;
use handover_core::manifest::{EntryKind, Manifest};
use handover_core::secret::ShareSecret;
use rustix::fs::{FlockOperation, flock};
use std::time::Duration;

use super::args::Send;
use super::record::{Memory, now};

/// Folder for the lock files of served shares, inside the data folder.
const LOCKS: &str = "shares";
/// Maximum number of entries for which a share's files are remembered, to detect changes.
const LISTED: usize = 20_000;

/// Describes how this run was started, without `code` among its arguments. `None` if that cannot be stored as UTF-8.
pub(crate) fn begun(code: Option<&str>) -> Option<Begun> {
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.into_string().ok());
    let args: Option<Vec<String>> = args.collect();
    let mut args = args?;
    args.retain(|arg| Some(arg.as_str()) != code);
    Some(Begun {
        at: now(),
        cwd: std::env::current_dir().ok()?.to_str()?.to_owned(),
        args,
    })
}

/// A share that only this process serves, and what an earlier run stored of it.
pub(crate) struct Claimed {
    pub(crate) key: String,
    pub(crate) begun: Begun,
    pub(crate) before: Option<OpenShare>,
    codes: ShortCodes,
    /// Lock on the share, held until this value is dropped.
    _lock: File,
}

impl Claimed {
    /// Claims the share that these arguments describe. `None` if another process serves it or nothing may be stored of
    /// it.
    pub(crate) fn of(args: &Send, by_ticket: bool, memory: &Memory) -> Option<Self> {
        let key = key_of(args, by_ticket).filter(|_| memory.keeps)?;
        let begun = begun(None)?;
        let lock = lock(memory, &key)?;
        let shares = memory.store.open_shares();
        let shares =
            shares.inspect_err(|error| tracing::warn!(%error, "earlier shares are not known"));
        let before = shares.unwrap_or_default().into_iter();
        let before = before.into_iter().find(|(of, _)| *of == key);
        Some(Self {
            key,
            begun,
            before: before.map(|(_, share)| share),
            codes: ShortCodes::in_folder(memory.folder()),
            _lock: lock,
        })
    }

    /// Restores the earlier share in `options`, if this peer may continue it. Returns its secret.
    pub(crate) fn go_on(
        &mut self,
        peer: PeerId,
        options: &mut ShareOptions,
    ) -> Option<ShareSecret> {
        let is_alive = |share: &OpenShare| {
            let over = share.expires.is_some_and(|at| at <= now());
            let used = options.uses.is_some_and(|uses| share.completed >= uses);
            share.peer == peer.to_string() && !over && !used
        };
        let before = self.before.take().filter(is_alive)?;
        if options.short == Short::New {
            let code = ShareCode::parse(before.short.as_deref()?).ok()?;
            let ShareCode::Short(code) = code else {
                return None;
            };
            let noted = self.codes.of(&code).map(|noted| noted.guessed);
            let wrong = noted.unwrap_or_default().max(before.wrong);
            // A short code with too many wrong guesses is replaced.
            if wrong < Limits::default().guesses {
                options.short = Short::Again { code, wrong };
            }
        }
        options.uses = options
            .uses
            .map(|uses| uses.saturating_sub(before.completed));
        if let Some(at) = before.expires {
            options.expires = Some(Duration::from_secs(at.saturating_sub(now())));
        }
        let secret = ShareSecret::from_bytes(before.secret);
        self.before = Some(before);
        Some(secret)
    }
}

/// The key that identifies a share across runs. `None` for a stream, which cannot be served again, and for a share with
/// one peer, which has no code to keep.
fn key_of(args: &Send, by_ticket: bool) -> Option<String> {
    if args.to.is_some() || args.paths.iter().any(|path| path == Path::new("-")) {
        return None;
    }
    let mut key = format!("{by_ticket} {}", args.name.as_deref().unwrap_or_default());
    for path in &args.paths {
        key.push('\0');
        key.push_str(path.canonicalize().ok()?.to_str()?);
    }
    Some(key)
}

/// Takes the lock of a share. `None` if another process holds it.
pub(crate) fn lock(memory: &Memory, key: &str) -> Option<File> {
    let folder = memory.folder().join(LOCKS);
    std::fs::create_dir_all(&folder).ok()?;
    let hash = handover_core::merkle::file_root(key.as_bytes());
    let lock = File::create(folder.join(HEXLOWER.encode(hash.0.get(..8)?))).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}

/// Path, size and modification time of each file in a share, to detect changes later. Empty if there are too many
/// entries.
pub(crate) fn listing(manifest: &Manifest) -> Vec<(String, u64, i64, u32)> {
    if manifest.entries().len() > LISTED {
        return Vec::new();
    }
    let files = manifest
        .entries()
        .iter()
        .filter_map(|entry| match entry.kind {
            EntryKind::File { size, modified, .. } => {
                let path = entry.path.as_str().to_owned();
                Some((path, size, modified.seconds, modified.nanos))
            }
            _ => None,
        });
    files.collect()
}

/// Returns the files that have changed, are new or are gone.
pub(crate) fn changed(
    before: &[(String, u64, i64, u32)],
    now: &[(String, u64, i64, u32)],
) -> Vec<String> {
    if before.is_empty() || now.is_empty() {
        return Vec::new();
    }
    let mut names: Vec<&String> = Vec::new();
    names.extend(
        now.iter()
            .filter(|file| !before.contains(file))
            .map(|(name, ..)| name),
    );
    let is_gone = |name: &String| !now.iter().any(|(other, ..)| other == name);
    names.extend(
        before
            .iter()
            .map(|(name, ..)| name)
            .filter(|name| is_gone(name)),
    );
    names.into_iter().cloned().collect()
}

/// Makes a path absolute for storage. `None` if it is not UTF-8.
pub(crate) fn absolute(path: &Path) -> Option<String> {
    let path: PathBuf = std::path::absolute(path).ok()?;
    path.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> (String, u64, i64, u32) {
        (name.to_owned(), size, 0, 0)
    }

    #[test]
    fn what_has_changed_is_named() {
        let before = [file("a", 1), file("b", 2), file("c", 3)];
        let now = [file("a", 1), file("b", 9), file("d", 4)];
        assert_eq!(changed(&before, &now), ["b", "d", "c"]);
        assert!(changed(&before, &before).is_empty());
        assert!(changed(&[], &now).is_empty(), "nothing is known");
    }
}
