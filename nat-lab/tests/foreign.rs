//! The built `handover` against software that nobody here wrote: what a foreign client sees of it, which identities it
//! reaches, and what worked with foreign nodes and must go on working.
//!
//! All of it runs in one network namespace, whose addresses count as public ones; an ordinary user may make that too
//! where the kernel lets them. Where it can't be made, or the foreign world is not installed, every test is reported as
//! ignored, and why.

// What was left out, and why, is read in the output.
#![allow(clippy::print_stderr, unreachable_pub)]

#[path = "foreign/dns.rs"]
mod dns;
#[path = "foreign/peers.rs"]
mod peers;
#[path = "foreign/room.rs"]
mod room;
#[path = "foreign/scenes.rs"]
mod scenes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Nodes that take a second of a core each to come up, beside peers that measure nothing: two at a time are enough.
const TOGETHER: usize = 2;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(TOGETHER));
    if arguments.list {
        return run(&arguments, None);
    }
    match room::enter() {
        Ok(room::Entered::Inside) => run(&arguments, room::missing().as_deref()),
        Ok(room::Entered::Done(code)) => code,
        Err(reason) => run(&arguments, Some(&reason)),
    }
}

/// Runs every test, or reports all of them as ignored.
fn run(arguments: &Arguments, missing: Option<&str>) -> ExitCode {
    if let Some(missing) = missing {
        eprintln!("the tests against foreign software are ignored: {missing}");
    }
    let trials = scenes::ALL.iter().map(|(name, scene)| {
        let trial = Trial::test(*name, move || {
            scene();
            Ok(())
        });
        trial.with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(arguments, trials.collect()).exit_code()
}
