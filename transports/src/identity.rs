//! The key pair that identifies a peer, stored in a file of its data folder.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::Path;

use handover_core::Keypair;

/// Name of the file in the data folder.
pub const FILE_NAME: &str = "identity.key";

/// Maximum size of the file, in bytes. An encoded ed25519 key pair is 68 bytes; a longer file is something else.
const MAX_LEN: u64 = 1024;

/// Loads the identity in `dir`, or creates it if the file does not exist.
///
/// The file holds the key pair as libp2p encodes it (protobuf), readable by its owner only. It is created atomically
/// and never replaces another file: two processes that start at the same time get the same identity. A file that is
/// damaged, readable by others or not a plain file is an error and is never replaced, because other peers may know this
/// peer by that identity.
pub fn load_or_create(dir: &Path) -> io::Result<Keypair> {
    let path = dir.join(FILE_NAME);
    match load(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(dir, &path),
        loaded => loaded,
    }
}

fn load(path: &Path) -> io::Result<Keypair> {
    let file = open(path)?;
    check(path, &file)?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes)?;
    let keypair = Keypair::from_protobuf_encoding(&bytes);
    bytes.fill(0);
    keypair.map_err(|_| refused(path, "is damaged; move it away to get a new identity"))
}

/// Opens the file without following a symbolic link, which may point to another user's file.
fn open(path: &Path) -> io::Result<File> {
    let named = fs::symlink_metadata(path)?;
    if named.file_type().is_symlink() {
        return Err(refused(path, "is a symbolic link"));
    }
    if !named.is_file() {
        return Err(refused(path, "is not a plain file"));
    }
    let file = File::open(path)?;
    if !is_same(&named, &file.metadata()?) {
        return Err(refused(path, "was exchanged while it was opened"));
    }
    Ok(file)
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(_: &Metadata, b: &Metadata) -> bool {
    b.is_file()
}

fn check(path: &Path, file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.len() > MAX_LEN {
        return Err(refused(path, "is too long to be an identity"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(refused(
                path,
                "can be read by others; take their rights away (chmod 600) if you trust it",
            ));
        }
    }
    Ok(())
}

fn create(dir: &Path, path: &Path) -> io::Result<Keypair> {
    create_folder(dir)?;
    let keypair = Keypair::generate_ed25519();
    let mut bytes = keypair.to_protobuf_encoding().map_err(io::Error::other)?;
    // Created with mode 0600 under an unpredictable name.
    let mut file = tempfile::Builder::new()
        .prefix(".identity-")
        .tempfile_in(dir)?;
    let written = file.write_all(&bytes);
    bytes.fill(0);
    written?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            sync_folder(dir)?;
            Ok(keypair)
        }
        // Another process created the file first: use its identity.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => load(path),
        Err(error) => Err(error.error),
    }
}

/// Creates a folder and its missing parents, accessible by the owner only from the start. An existing folder is left
/// unchanged.
pub fn create_folder(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(dir)
}

/// Syncs the folder, so that the new file name survives a crash. Only Unix can open a folder for this.
fn sync_folder(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn refused(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the identity file {} {what}", path.display()),
    )
}
