//! Why something failed, in a few words for people. libp2p's own messages name addresses and layers.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionError, DialError};

/// A failure to make a connection, already in words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Reason(&'static str);

impl Reason {
    /// Looks through an error and its causes for something that has a plain name.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = String::new();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(reason) = error.downcast_ref::<io::Error>().and_then(of_kind) {
                return Self(reason);
            }
            text.push_str(&error.to_string().to_lowercase());
            cause = error.source();
        }
        // Some layers of libp2p hide the error below behind its text.
        Self(of_text(&text))
    }
}

const REFUSED: &str = "connection refused";
const TIMED_OUT: &str = "timed out";
const UNREACHABLE: &str = "the network is unreachable from here";
const CLOSED: &str = "the other side closed the connection";
const UNKNOWN_THERE: &str = "the other side is not reachable through the relay";
const NO_RELAY: &str = "the relay could not be reached";
const FULL: &str = "the relay has no room";
const UNSUPPORTED: &str = "the address is not supported";
const UNNAMED: &str = "a name could not be resolved";
const INSECURE: &str = "no secure connection could be agreed on";

fn of_kind(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(REFUSED),
        io::ErrorKind::TimedOut => Some(TIMED_OUT),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Some(UNREACHABLE),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(CLOSED),
        _ => None,
    }
}

fn of_text(text: &str) -> &'static str {
    let known = [
        ("resource limit", FULL),
        ("no reservation for", UNKNOWN_THERE),
        ("failed to connect to destination", UNKNOWN_THERE),
        ("relay could not be reached", NO_RELAY),
        ("unsupported resolved address", UNSUPPORTED),
        ("no records found", UNNAMED),
        ("resolve", UNNAMED),
        ("refused", REFUSED),
        ("timed out", TIMED_OUT),
        ("timeout", TIMED_OUT),
        ("unreachable", UNREACHABLE),
        ("no route", UNREACHABLE),
        ("reset", CLOSED),
        ("eof", CLOSED),
        ("closed", CLOSED),
    ];
    known
        .iter()
        .find(|(word, _)| text.contains(word))
        .map_or(INSECURE, |(_, reason)| reason)
}

/// Why a dial of the swarm failed: one reason an address, or one for all.
pub(crate) fn of_dial(error: &DialError) -> Vec<String> {
    match error {
        DialError::LocalPeerId { .. } => vec!["the address is this peer's own".into()],
        DialError::NoAddresses => vec!["no address is known".into()],
        DialError::WrongPeerId { .. } => vec!["another peer answered".into()],
        DialError::Denied { .. } => vec!["there are too many connections".into()],
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
            vec!["the dial was given up".into()]
        }
        DialError::Transport(failures) => failures
            .iter()
            .map(|(_, failure)| match failure {
                TransportError::MultiaddrNotSupported(_) => UNSUPPORTED.into(),
                // A `Reason`, as the stack made it.
                TransportError::Other(error) => error.to_string(),
            })
            .collect(),
    }
}

/// Why a connection ended; `None` is a proper close.
pub(crate) fn of_close(cause: Option<&ConnectionError>) -> String {
    match cause {
        None => "the connection was closed".into(),
        Some(ConnectionError::KeepAliveTimeout) => "the connection was not used".into(),
        Some(ConnectionError::IO(error)) => match Reason::of(error) {
            Reason(INSECURE) => "the connection was lost".into(),
            Reason(reason) => reason.into(),
        },
    }
}

/// One sentence for everything that went wrong in a dial, each thing once.
pub(crate) fn summary(reasons: &[String]) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for reason in reasons {
        if !distinct.contains(&reason.as_str()) {
            distinct.push(reason);
        }
    }
    match distinct.as_slice() {
        [] => "no address is known".into(),
        [only] => (*only).into(),
        several => format!("no address could be reached ({})", several.join("; ")),
    }
}
