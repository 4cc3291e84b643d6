//! Why a run failed: a message, advice and an exit code.

use handover::ManagerError;
use handover::store::StoreError;
use handover_core::code::CodeError;
use handover_core::engine::{DiskError, DownloadError, ShareEnd};
use handover_transports::libp2p::Libp2pError;

use super::exit::Exit;

/// The failure of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What went wrong. May quote peers and the operating system, so it must be escaped before printing.
    pub(crate) what: String,
    /// What to do next. Quotes nothing from outside. May be empty.
    pub(crate) advice: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// The command line is incomplete or contradictory.
    pub(crate) fn usage(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, advice)
    }

    /// An internal error.
    // By value, because `map_err` passes the error by value.
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn internal(what: impl ToString) -> Self {
        Self::new(Exit::Internal, what.to_string(), "")
    }

    /// A share that could not be created. `None` if it ended for another reason.
    pub(crate) fn of_share(reason: &ShareEnd) -> Option<Self> {
        match reason {
            ShareEnd::Failed(why) => Some(Self::new(
                Exit::Disk,
                format!("this can't be shared: {why}"),
                "Check the paths, and that you may read what is there.",
            )),
            ShareEnd::Stopped | ShareEnd::UsedUp | ShareEnd::Expired => None,
        }
    }

    /// The store cannot be read or written.
    // By value, because `map_err` passes the error by value.
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn of_store(error: StoreError) -> Self {
        let advice = match error {
            StoreError::Busy(_) => "Run the same command again in a moment.",
            StoreError::File { .. } => {
                "Name another data folder with --data-dir or HANDOVER_DATA_DIR."
            }
            StoreError::Database(_) => "",
        };
        Self::new(Exit::Disk, error.to_string(), advice)
    }

    /// A download that failed as a whole.
    pub(crate) fn of_download(error: &DownloadError) -> Self {
        let (exit, advice) = match error {
            DownloadError::Unreachable(_) => (
                Exit::Unreachable,
                "Check the code, that `handover send` still runs there, and the date on both sides. `handover doctor` there tells what the\n\
                 networks allow.",
            ),
            DownloadError::NoSuchShare | DownloadError::Withdrawn => (
                Exit::Peer,
                "Ask the sender to run `handover send` again, and use the new code.",
            ),
            DownloadError::WrongWords => (
                Exit::Peer,
                "Ask the sender to spell the two words, and run the same command again. After a few wrong tries the code\n\
                 opens nothing any more; the long code always does.",
            ),
            DownloadError::NoMoreProofs => (
                Exit::Peer,
                "Somebody may be standing in for the sender: each try lets a stranger check one guess at the words, so there are\n\
                 only five. Ask the sender for the long code (`handover send --ticket`), which nobody can guess.",
            ),
            DownloadError::OtherFiles => (
                Exit::Peer,
                "What is here already stays. Run the same command again to see what is offered now.",
            ),
            DownloadError::Violation(_) => (
                Exit::Peer,
                "Nothing is kept that was not checked. Use the same version of handover on both sides; if that does\n\
                 not help, do not trust the sender.",
            ),
            DownloadError::Unsuitable(_) => (
                Exit::Usage,
                "Choose with --select, or receive into a folder with --to.",
            ),
            DownloadError::Disk(error) => return Self::of_disk(error),
        };
        Self::new(exit, error.to_string(), advice)
    }

    fn of_disk(error: &DiskError) -> Self {
        let advice = match error {
            DiskError::Full => {
                "Make room, or receive elsewhere with --to. Then run the same command again."
            }
            DiskError::Denied(_) => "Receive into a folder where you may write, with --to.",
            DiskError::NameTooLong => "Receive into a folder on another file system, with --to.",
            DiskError::Escape(_) => "Receive into an empty folder, with --to.",
            DiskError::PipeClosed => "The program that reads standard output has ended.",
            DiskError::NotFound | DiskError::Changed | DiskError::Other(_) => "",
        };
        Self::new(Exit::Disk, format!("here: {error}"), advice)
    }
}

impl From<CodeError> for Failure {
    fn from(error: CodeError) -> Self {
        Self::usage(error.to_string(), "")
    }
}

impl From<ManagerError> for Failure {
    fn from(error: ManagerError) -> Self {
        match error {
            ManagerError::Code(error) => error.into(),
            ManagerError::Identity { .. } => Self::new(
                Exit::Disk,
                error.to_string(),
                "Name another folder for it with --data-dir or HANDOVER_DATA_DIR.",
            ),
            ManagerError::Network(Libp2pError::Bootstrap(_) | Libp2pError::Relay(_)) => {
                Self::usage(
                    error.to_string(),
                    "Take the address as that node prints it.",
                )
            }
            ManagerError::Network(_) => Self::new(
                Exit::Internal,
                error.to_string(),
                "Check --listen and --transport, and whether another program uses that port.",
            ),
            error => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::trouble;
    use super::*;

    #[test]
    fn every_error_says_what_to_do() {
        let disk = [
            DiskError::Full,
            DiskError::Denied("/srv: read-only file system".to_string()),
            DiskError::NotFound,
            DiskError::Changed,
            DiskError::NameTooLong,
            DiskError::PipeClosed,
            DiskError::Escape("a symlink is in the way".to_string()),
            DiskError::Other("input/output error".to_string()),
        ];
        let mut failures = vec![
            Failure::of_download(&DownloadError::Unreachable(
                "connection refused".to_string(),
            )),
            Failure::of_download(&DownloadError::NoSuchShare),
            Failure::of_download(&DownloadError::Withdrawn),
            Failure::of_download(&DownloadError::OtherFiles),
            Failure::of_download(&DownloadError::WrongWords),
            Failure::of_download(&DownloadError::NoMoreProofs),
            Failure::of_download(&DownloadError::Violation("a\rb\u{1b}[2J".to_string())),
            Failure::of_download(&DownloadError::Unsuitable(
                "a pipe takes one file".to_string(),
            )),
            Failure::of_share(&ShareEnd::Failed("mods: not found".to_string())).unwrap(),
            CodeError::NotATicket.into(),
            ManagerError::NotRunning.into(),
        ];
        failures.extend(
            disk.into_iter()
                .map(|error| Failure::of_download(&error.into())),
        );
        let shown: Vec<String> = failures
            .iter()
            .map(|failure| {
                let advice = trouble::advice(failure).unwrap_or_default();
                format!(
                    "[{}] {}\n{advice}",
                    failure.exit.code(),
                    trouble::what(failure)
                )
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
