//! The image of every container: the programs that this build made, and the libraries that they are linked against, as
//! the machine's dynamic linker names them. So no registry and no distribution is needed, and what runs is what was built.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::ImageSummary;
use testcontainers::bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};

use super::{GroundError, find_program};

/// Where the lab's own program is in a container.
pub const LAB: &str = "/bin/handover-nat-lab";
/// Where handover is.
pub const HANDOVER: &str = "/bin/handover";
/// Where the program is that maps ports, if the machine has it.
pub(super) const MAPPER: &str = "/bin/miniupnpd";

/// What the lab's image is called.
pub(super) const NAME: &str = "handover-nat-lab";

/// The image of this process.
pub(super) struct Image {
    tag: String,
}

impl Image {
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Makes the image and hands it to the engine, and lets those of other builds go that no lab uses any more.
    pub(super) async fn make(docker: &Docker) -> Result<Self, GroundError> {
        let mut programs = vec![(own_program()?, LAB), (handover_program()?, HANDOVER)];
        // It goes through the container's network with the machine's own `nft` rules; only it has to be inside.
        programs.extend(find_program("miniupnpd").map(|program| (program, MAPPER)));
        let files = files(&programs)?;
        let tag = tag_of(&files)?;
        let image = Self { tag };
        let name = format!("{NAME}:{}", image.tag);
        forget_others(docker, &name).await;
        if docker.inspect_image(&name).await.is_ok() {
            return Ok(image);
        }
        let archive = archive(&files)?;
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(NAME)
            .tag(&image.tag)
            .build();
        let body = testcontainers::bollard::body_full(archive.into());
        let mut taken = docker.create_image(Some(options), Some(body), None);
        while let Some(step) = taken.next().await {
            step.map_err(|error| GroundError::Engine {
                doing: format!("take the image {name}"),
                reason: error.to_string(),
            })?;
        }
        Ok(image)
    }
}

/// Removes the images of other builds. One that a container was made of stays, and whatever else fails is no matter.
async fn forget_others(docker: &Docker, own: &str) {
    let filters = HashMap::from([("reference", vec![NAME])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let listed = docker.list_images(Some(options)).await.unwrap_or_default();
    // Another lab may have made one just now, and no container of it yet.
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let since = hour_ago.duration_since(UNIX_EPOCH).unwrap_or_default();
    let old =
        |image: &ImageSummary| u64::try_from(image.created).is_ok_and(|at| at < since.as_secs());
    let tags = listed
        .into_iter()
        .filter(old)
        .flat_map(|image| image.repo_tags);
    for tag in tags.filter(|tag| tag != own) {
        let gently = RemoveImageOptionsBuilder::new().force(false).build();
        let _ = docker.remove_image(&tag, Some(gently), None).await;
    }
}

/// A file of this machine, and where it goes.
type File = (PathBuf, String);

fn own_program() -> Result<PathBuf, GroundError> {
    std::env::current_exe().map_err(|error| GroundError::File {
        path: "this program".into(),
        error,
    })
}

/// The command that was built beside the lab.
fn handover_program() -> Result<PathBuf, GroundError> {
    if let Some(named) = std::env::var_os("HANDOVER_NAT_LAB_PROGRAM") {
        return Ok(named.into());
    }
    let beside = own_program()?.with_file_name("handover");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(GroundError::Missing {
        what: format!("the handover program, at {}", beside.display()),
        advice: "build it with the same profile: cargo build -p handover, with --release if the lab was",
    })
}

/// Programs with all that they are linked against, where they expect it.
fn files(programs: &[(PathBuf, &str)]) -> Result<Vec<File>, GroundError> {
    let mut files = Vec::new();
    let mut libraries = BTreeSet::new();
    for (program, inside) in programs {
        files.push((program.clone(), (*inside).to_owned()));
        libraries.extend(linked(program)?);
    }
    let libraries = libraries.into_iter().map(|library| {
        let inside = library.to_string_lossy().into_owned();
        (library, inside)
    });
    files.extend(libraries);
    Ok(files)
}

/// The libraries of a program, its loader included.
fn linked(program: &Path) -> Result<Vec<PathBuf>, GroundError> {
    let failed = |output: String| GroundError::Command {
        doing: format!("ldd {}", program.display()),
        place: "this machine".into(),
        output,
    };
    let output = Command::new("ldd").arg(program).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let told = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    // A static program is told on one or the other.
    let is_static = |text: &str| text.contains("not a dynamic") || text.contains("statically");
    if is_static(&told) || is_static(&words) {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        return Err(failed(words.into_owned()));
    }
    if let Some(missing) = told.lines().find(|line| line.contains("not found")) {
        return Err(failed(missing.trim().to_owned()));
    }
    Ok(libraries(&told))
}

/// The paths in what `ldd` prints: `name => /path (0x…)`, or `/path (0x…)` for the loader.
fn libraries(told: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let named = line.split_once("=>").map_or(line, |(_, path)| path);
        let path = named.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    told.lines().filter_map(path).collect()
}

/// A tag that is another one when any of the files is: by name, size and the time it was written.
fn tag_of(files: &[File]) -> Result<String, GroundError> {
    use std::hash::{Hash, Hasher};
    use std::os::unix::fs::MetadataExt;
    // Only compared on this machine, by this program: what the standard library hashes with is good enough.
    #[expect(deprecated, reason = "the default one is seeded anew in each process")]
    let mut hasher = std::hash::SipHasher::new();
    for (file, inside) in files {
        let about = std::fs::metadata(file).map_err(|error| GroundError::File {
            path: file.clone(),
            error,
        })?;
        (file, inside, about.len(), about.mtime(), about.mtime_nsec()).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn archive(files: &[File]) -> Result<Vec<u8>, GroundError> {
    let mut archive = tar::Builder::new(Vec::new());
    for (file, inside) in files {
        let mut put = || -> io::Result<()> {
            let mut header = tar::Header::new_gnu();
            let bytes = std::fs::read(file)?;
            header.set_size(bytes.len() as u64);
            header.set_mode(0o755);
            archive.append_data(
                &mut header,
                inside.trim_start_matches('/'),
                bytes.as_slice(),
            )
        };
        put().map_err(|error| GroundError::File {
            path: file.clone(),
            error,
        })?;
    }
    let end = archive.into_inner();
    end.map_err(|error| GroundError::File {
        path: "the image".into(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_read_from_what_ldd_prints() {
        let told = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x7f)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let told: Vec<_> = libraries(told)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let wanted = [
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn this_test_is_linked_against_something_or_static() {
        let own = own_program().unwrap();
        for library in linked(&own).unwrap() {
            assert!(library.is_file(), "{}", library.display());
        }
    }
}
