//! The image of every container: the programs of this build, and the shared libraries that the machine's dynamic linker
//! lists for them. No registry or distribution is needed, and the programs tested are the ones just built.

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

/// Path of the lab's own program in a container.
pub const LAB: &str = "/bin/handover-nat-lab";
/// Path of handover in a container.
pub const HANDOVER: &str = "/bin/handover";
/// Path of the port mapping server in a container, if the machine has it.
pub(super) const MAPPER: &str = "/bin/miniupnpd";

/// The name of the lab's image.
pub(super) const NAME: &str = "handover-nat-lab";

/// The image that this process uses.
pub(super) struct Image {
    tag: String,
}

impl Image {
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Creates the image and loads it into the engine. Removes the images of other builds that no lab uses any more.
    pub(super) async fn make(docker: &Docker) -> Result<Self, GroundError> {
        let mut programs = vec![(own_program()?, LAB), (handover_program()?, HANDOVER)];
        // The machine's own `nft` loads the rules for it from outside, so only this program must be in the image.
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

/// Removes the images of other builds. An image that a container uses stays, and all other errors are ignored too.
async fn forget_others(docker: &Docker, own: &str) {
    let filters = HashMap::from([("reference", vec![NAME])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let listed = docker.list_images(Some(options)).await.unwrap_or_default();
    // Another lab may have just created an image and no container from it yet.
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

/// A file of this machine, and its path in the image.
type File = (PathBuf, String);

fn own_program() -> Result<PathBuf, GroundError> {
    std::env::current_exe().map_err(|error| GroundError::File {
        path: "this program".into(),
        error,
    })
}

/// Returns the handover program that was built next to the lab.
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

/// Returns the programs with their shared libraries, each with its path in the image.
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

/// Returns the shared libraries of a program, including the loader.
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
    // For a static program, `ldd` says so on either standard output or standard error.
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

/// Extracts the paths from the output of `ldd`: `name => /path (0x…)`, or `/path (0x…)` for the loader.
fn libraries(told: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let named = line.split_once("=>").map_or(line, |(_, path)| path);
        let path = named.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    told.lines().filter_map(path).collect()
}

/// Returns a tag that changes with any of the files: with its path, size or modification time.
fn tag_of(files: &[File]) -> Result<String, GroundError> {
    use std::hash::{Hash, Hasher};
    use std::os::unix::fs::MetadataExt;
    // The tag is compared only on this machine and by this program, so the hash of the standard library is sufficient.
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
