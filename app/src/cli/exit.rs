//! Every exit code of the command, in one place. Scripts rely on them: a number never changes its meaning.

use std::fmt::Write;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went as asked.
    Done = 0,
    /// Something here failed that has no number of its own, such as the network.
    Internal = 1,
    /// The command line or the code is wrong, or nobody could be asked.
    Usage = 2,
    /// Nobody answered, or the other side was lost and not found again.
    Unreachable = 3,
    /// Somebody said no to the offer.
    Declined = 4,
    /// It ended, but some files failed.
    Incomplete = 5,
    /// The disk here.
    Disk = 6,
    /// The other side withdrew the share, or broke the protocol.
    Peer = 7,
    /// Ctrl-C, or a signal that ends programs.
    Interrupted = 130,
}

/// What `--help` says of each.
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
    /// The number that the shell sees.
    pub(crate) fn code(self) -> i32 {
        self as i32
    }
}

/// The section of `--help`.
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
