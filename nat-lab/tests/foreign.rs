//! The built `handover` against software that nobody here wrote: what a foreign client sees of it, which identities it
//! reaches, and what worked with foreign nodes and must go on working.
//!
//! All of it runs in one network namespace, whose addresses count as public ones.

#![allow(unreachable_pub)]

#[path = "foreign/dns.rs"]
mod dns;
#[path = "foreign/peers.rs"]
mod peers;
#[path = "foreign/room.rs"]
mod room;
#[path = "foreign/scenes.rs"]
mod scenes;

use std::process::ExitCode;

use handover_nat_lab::foreign::Store;
use handover_test_needs::{Lack, NFT, Need, Tests};

/// Nodes that take a second of a core each to come up, beside peers that measure nothing: two at a time are enough.
const TOGETHER: usize = 2;

/// Says that nothing can be installed, as it does to `.ci/foreign`.
const NO_REGISTRY: &str = "HANDOVER_NO_REGISTRY";

fn main() -> ExitCode {
    Tests::default()
        .needing(&[Need::Namespaces, NFT], scenes::all())
        .all_needing(programs)
        .together(TOGETHER)
        .run()
}

/// The foreign programs, and the one under test.
fn programs() -> Result<(), Lack> {
    if let Err(error) = Store::open() {
        let words = error.to_string();
        let registry = std::env::var(NO_REGISTRY).as_deref() != Ok("1");
        return Err(if registry {
            Lack::Missing(words)
        } else {
            Lack::GivenUp(format!("{words}; but {NO_REGISTRY}=1"))
        });
    }
    let handover = peers::program();
    if handover.is_file() {
        return Ok(());
    }
    Err(Lack::Missing(format!(
        "{} is not built; do so: cargo build -p handover",
        handover.display()
    )))
}
