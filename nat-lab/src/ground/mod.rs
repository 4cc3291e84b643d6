//! The ground that a topology stands on: containers without a network of the engine's, joined by links of the lab's own.
//!
//! Every host, gateway and node is a container of an image that holds nothing but the lab's and handover's programs and
//! the libraries that they are linked against. The lab makes their interfaces, addresses, routes and rules from outside,
//! in their network namespaces; nothing is made in the machine's own. When a container goes, all of its network does.

mod build;
mod engine;
mod image;
mod leftovers;
mod nodes;
mod place;
mod plan;

use std::path::PathBuf;

pub use build::{Ground, PROBE_PORTS, PROBED_V4, PROBED_V6};
pub use engine::Engine;
pub use image::{HANDOVER, LAB};
pub use leftovers::remove_leftovers;
pub use nodes::{Node, World};
pub use place::{Place, Process};

/// Why the lab can't do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// Something is not there that has to be.
    #[error("{what} is needed; {advice}")]
    Missing {
        /// What.
        what: String,
        /// How to come by it.
        advice: &'static str,
    },
    /// The container engine does not answer.
    #[error(
        "the container engine can't be reached ({0}); install it (Debian's package is docker.io) and start it: dockerd, \
         or systemctl start docker"
    )]
    NoEngine(String),
    /// It answers, and refuses.
    #[error("the container engine failed to {doing}: {reason}")]
    Engine {
        /// What it was asked to do.
        doing: String,
        /// What it says.
        reason: String,
    },
    /// A command in a container's network failed.
    #[error("{doing} failed at {place}: {output}")]
    Command {
        /// What it was for.
        doing: String,
        /// The container.
        place: String,
        /// What it printed.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The topology can't be built.
    #[error("{0}")]
    Topology(String),
    /// The foreign world is not there.
    #[error(transparent)]
    Foreign(#[from] crate::foreign::ForeignError),
    /// Something did not happen in time.
    #[error("{0}")]
    Late(String),
}

/// Programs of the machine that the lab calls, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 5] = [
    ("nsenter", "Debian's package is util-linux"),
    ("ip", "Debian's package is iproute2"),
    ("nft", "Debian's package is nftables"),
    ("ethtool", "Debian's package is ethtool"),
    (
        "ldd",
        "it is part of the C library, Debian's package is libc-bin",
    ),
];

/// Whether this machine has what the lab needs besides a container engine.
///
/// # Errors
///
/// What is missing, and how to come by it.
pub fn check_machine() -> Result<(), GroundError> {
    if !rustix::process::geteuid().is_root() {
        return Err(GroundError::Missing {
            what: "root".into(),
            advice: "the lab makes network interfaces and rules in its containers: run it as root, or with sudo -E",
        });
    }
    for (program, advice) in PROGRAMS {
        if find_program(program).is_none() {
            let what = format!("the program {program}");
            return Err(GroundError::Missing { what, advice });
        }
    }
    Ok(())
}

/// Where a program of the machine is.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path);
    // Not in every user's path.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut candidates = own.chain(system).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}
