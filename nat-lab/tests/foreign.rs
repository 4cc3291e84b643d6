//! Tests the built `handover` with software of other projects: what a foreign client sees of it, which identities it
//! can connect to, and transfers over foreign nodes that worked before and must keep working.
//!
//! All tests run in one network namespace, whose addresses count as public.

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

/// Maximum number of tests at the same time. Each node takes a second of CPU time to start, and the peers measure
/// nothing, so two are enough.
const TOGETHER: usize = 2;

/// Environment variable, set to 1 if nothing can be installed. `.ci/foreign` reads it too.
const NO_REGISTRY: &str = "HANDOVER_NO_REGISTRY";

fn main() -> ExitCode {
    Tests::default()
        .needing(&[Need::Namespaces, NFT], scenes::all())
        .all_needing(programs)
        .together(TOGETHER)
        .run()
}

/// Checks that the foreign programs and the program under test are there.
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
