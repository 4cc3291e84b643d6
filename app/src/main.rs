//! The `handover` command.

mod cli;

fn main() {
    cli::main();
}
