//! Entry point of the lab's command.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
