//! Every exit code of the command. Scripts rely on them, so a number never changes its meaning.

use std::fmt::Write;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Done = 0,
    /// A local failure without a number of its own, such as one of the network.
    Internal = 1,
    /// The command line or the code is wrong, or nobody could be asked.
    Usage = 2,
    /// No peer answered, or the other side was lost and not found again.
    Unreachable = 3,
    /// The offer was declined.
    Declined = 4,
    /// The transfer ended, but some files failed.
    Incomplete = 5,
    /// A failure of the local disk.
    Disk = 6,
    /// The other side withdrew the share, or broke the protocol.
    Peer = 7,
    /// Ctrl-C, or another signal that ends programs.
    Interrupted = 130,
}

/// The description of each code in `--help`.
const MEANINGS: [(Exit, &str); 9] = [
    (Exit::Done, "all went as asked"),
    (
        Exit::Internal,
        "something failed here that has no number below, such as the network",
    ),
    (
        Exit::Usage,
        "the command line or the code is wrong, or there was nobody to ask",
    ),
    (
        Exit::Unreachable,
        "the other side could not be reached, or was lost and not found again",
    ),
    (Exit::Declined, "the offer was declined"),
    (
        Exit::Incomplete,
        "it ended, but some files could not be sent or stored",
    ),
    (
        Exit::Disk,
        "the disk here: no room, no permission, a broken drive",
    ),
    (
        Exit::Peer,
        "the other side withdrew the share, no longer has it, or broke the protocol",
    ),
    (
        Exit::Interrupted,
        "ended by Ctrl-C (a `send` that was done serving ends with 0)",
    ),
];

impl Exit {
    /// Returns the number for the shell.
    pub(crate) fn code(self) -> i32 {
        self as i32
    }
}

/// Returns the section about exit codes for `--help`.
pub(crate) fn help() -> String {
    let mut help = String::from("Exit codes:\n");
    for (exit, meaning) in MEANINGS {
        let _ = writeln!(help, "  {:>3}  {meaning}", exit.code());
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_stay() {
        insta::assert_snapshot!(help());
    }
}
