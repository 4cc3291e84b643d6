//! Builds the network of a topology: containers without a network from the engine, joined by links that the lab makes.
//!
//! Every host, gateway and node is a container. Its image holds only the programs of the lab and of handover and their
//! shared libraries. The lab sets up interfaces, addresses, routes and rules from outside, in the network namespaces of
//! the containers, and nothing in the machine's own namespace. When a container is removed, its network goes with it.

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

/// Why the lab failed.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// Something that the lab needs is missing.
    #[error("{what} is needed; {advice}")]
    Missing {
        /// What is missing.
        what: String,
        /// How to get it.
        advice: &'static str,
    },
    /// The container engine does not answer.
    #[error(
        "the container engine can't be reached ({0}); install it (Debian's package is docker.io) and start it: dockerd, \
         or systemctl start docker"
    )]
    NoEngine(String),
    /// The container engine returned an error.
    #[error("the container engine failed to {doing}: {reason}")]
    Engine {
        /// The operation.
        doing: String,
        /// The engine's error.
        reason: String,
    },
    /// A command in a container's network failed.
    #[error("{doing} failed at {place}: {output}")]
    Command {
        /// The purpose of the command.
        doing: String,
        /// The container.
        place: String,
        /// The output of the command.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The error.
        error: std::io::Error,
    },
    /// The topology can't be built.
    #[error("{0}")]
    Topology(String),
    /// The foreign nodes can't be used.
    #[error(transparent)]
    Foreign(#[from] crate::foreign::ForeignError),
    /// Something did not happen in time.
    #[error("{0}")]
    Late(String),
}

/// Programs of the machine that the lab calls, with their Debian packages.
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

/// Checks that this machine has what the lab needs besides a container engine.
///
/// # Errors
///
/// Names what is missing, and how to get it.
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

/// Returns the path of a program on this machine.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path);
    // These folders are not in every user's PATH.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut candidates = own.chain(system).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}
