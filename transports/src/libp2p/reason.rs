//! Short reasons for failures, for the user. libp2p's own messages name addresses and layers.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::core::upgrade::{NegotiationError, ProtocolError};
use libp2p::swarm::{ConnectionError, DialError};

use super::names::NameError;

/// Why a connection to an address failed. Ordered: reasons that reveal more about the other side come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// The answer came from a web server, or from a middlebox that answers like one.
    #[error("HTTP was answered there, not libp2p")]
    Http,
    /// Something answered that does not speak libp2p.
    #[error("something was answered there that is not libp2p")]
    Foreign,
    /// No common multiplexer.
    #[error("it speaks no multiplexer that is known here (Yamux)")]
    NoMuxer,
    /// No common security protocol.
    #[error("it speaks no security protocol that is known here (TLS 1.3, Noise)")]
    NoSecurity,
    /// The peer's public key can't be read.
    #[error("its identity is of a kind that is not known here")]
    UnknownKey,
    /// The handshake failed with an error that has no reason of its own.
    #[error("no secure connection could be agreed on")]
    Insecure,
    /// The relay has no reservation of the peer, or can't connect to it.
    #[error("the other side is not reachable through the relay")]
    UnknownThere,
    /// The relay has no capacity left.
    #[error("the relay has no room")]
    Full,
    /// The relay could not be reached.
    #[error("the relay could not be reached")]
    NoRelay,
    /// The connection was established, and closed during the handshake.
    #[error("the other side closed the connection")]
    Closed,
    /// The connection was established, but nothing was received on it.
    #[error("it takes the connection and then says nothing")]
    Silent,
    /// Nothing listens at the address, or a firewall rejected the connection.
    #[error("connection refused")]
    Refused,
    /// No answer arrived.
    #[error("timed out")]
    TimedOut,
    /// There is no route to the address.
    #[error("the network is unreachable from here")]
    Unreachable,
    /// The address is in a private network, and was not named by anyone who may name such addresses.
    #[error("the address is in a private network, and a stranger has named it")]
    Forbidden,
    /// The transport is not implemented or is turned off.
    #[error("the address is not supported")]
    Unsupported,
    /// A name in the address has no records, or its lookup failed.
    #[error("a name could not be resolved")]
    Unnamed,
}

/// A reason as the cause of an error, so that it is found in the chain of causes: `Either` exposes the causes of the
/// error it contains, but not that error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Caused(#[source] Reason);

impl Reason {
    /// True if the other side has answered in any way.
    pub fn has_answered(self) -> bool {
        self < Self::Refused
    }

    /// Searches an error and its causes for a known reason.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = String::new();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(reason) = of_type(error) {
                return reason;
            }
            text.push_str(&error.to_string().to_lowercase());
            cause = error.source();
        }
        // Some layers of libp2p keep only the text of the error below.
        of_text(&text)
    }

    /// Same as [`of`](Self::of), but `None` if no reason is known.
    fn found(error: &(dyn Error + 'static)) -> Option<Self> {
        Some(Self::of(error)).filter(|reason| *reason != Self::Insecure)
    }
}

impl From<Reason> for Caused {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

/// For transports that hide their errors.
impl From<io::Error> for Caused {
    fn from(error: io::Error) -> Self {
        Self(Reason::of(&error))
    }
}

fn of_type(error: &(dyn Error + 'static)) -> Option<Reason> {
    if let Some(reason) = error.downcast_ref::<Reason>() {
        return Some(*reason);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The error inside an I/O error is not among its causes.
        let held = error.get_ref().and_then(|held| Reason::found(held));
        return held.or_else(|| of_kind(error.kind()));
    }
    if let Some(error) = error.downcast_ref::<NameError>() {
        return of_names(error);
    }
    match error.downcast_ref::<NegotiationError>()? {
        NegotiationError::Failed => Some(Reason::NoSecurity),
        NegotiationError::ProtocolError(ProtocolError::IoError(_)) => None,
        NegotiationError::ProtocolError(_) => Some(Reason::Foreign),
    }
}

/// A name can resolve to several addresses: the reason that reveals most is returned.
fn of_names(error: &NameError) -> Option<Reason> {
    match error {
        NameError::Dial(error) => Some(Reason::of(&**error)),
        NameError::Unknown(_) => Some(Reason::Unnamed),
        NameError::Unsupported(_) => Some(Reason::Unsupported),
        NameError::All(errors) => errors.iter().filter_map(of_names).min(),
    }
}

fn of_kind(kind: io::ErrorKind) -> Option<Reason> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some(Reason::Refused),
        io::ErrorKind::TimedOut => Some(Reason::TimedOut),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Some(Reason::Unreachable)
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(Reason::Closed),
        _ => None,
    }
}

fn of_text(text: &str) -> Reason {
    let known = [
        ("resource limit", Reason::Full),
        ("no reservation for", Reason::UnknownThere),
        ("failed to connect to destination", Reason::UnknownThere),
        ("relay could not be reached", Reason::NoRelay),
        // From the timeout around securing and multiplexing; connect timeouts are recognized before.
        ("timeout has been reached", Reason::Silent),
        ("unsupported resolved address", Reason::Unsupported),
        ("no records found", Reason::Unnamed),
        ("resolve", Reason::Unnamed),
        ("is not enabled", Reason::UnknownKey),
        ("unknown key-type", Reason::UnknownKey),
        ("any known protocol", Reason::NoSecurity),
        ("refused", Reason::Refused),
        ("timed out", Reason::TimedOut),
        ("timeout", Reason::TimedOut),
        ("unreachable", Reason::Unreachable),
        ("no route", Reason::Unreachable),
        ("reset", Reason::Closed),
        ("eof", Reason::Closed),
        ("closed", Reason::Closed),
    ];
    let mut known = known.iter();
    let found = known.find(|(word, _)| text.contains(word));
    found.map_or(Reason::Insecure, |(_, reason)| *reason)
}

/// Why one address of a swarm dial failed.
pub(crate) fn of_address(error: &TransportError<io::Error>) -> Reason {
    match error {
        TransportError::MultiaddrNotSupported(_) => Reason::Unsupported,
        // Contains a `Reason`, as built by the stack.
        TransportError::Other(error) => Reason::of(error),
    }
}

/// Why a swarm dial failed: one reason per address, or one for all.
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
            .map(|(_, failure)| of_address(failure).to_string())
            .collect(),
    }
}

/// Why a connection was lost, if the reason is known. `None` for a proper close.
pub(crate) fn of_loss(cause: Option<&ConnectionError>) -> Option<Reason> {
    let Some(ConnectionError::IO(error)) = cause else {
        return None;
    };
    // With a single multiplexer, this side uses it before the other side has agreed, so a refusal shows up only here.
    match Reason::found(error)? {
        Reason::NoSecurity => Some(Reason::NoMuxer),
        reason => Some(reason),
    }
}

/// Why a connection ended. `cause` is `None` for a proper close.
pub(crate) fn of_close(cause: Option<&ConnectionError>) -> String {
    match cause {
        None => "the connection was closed".into(),
        Some(ConnectionError::KeepAliveTimeout) => "the connection was not used".into(),
        Some(ConnectionError::IO(_)) => match of_loss(cause) {
            None => "the connection was lost".into(),
            Some(reason) => reason.to_string(),
        },
    }
}

/// Summarizes all failures of a dial in one sentence, without repetitions.
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
