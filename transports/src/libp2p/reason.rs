//! Why something failed, in a few words for people. libp2p's own messages name addresses and layers.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::core::upgrade::{NegotiationError, ProtocolError};
use libp2p::swarm::{ConnectionError, DialError};

use super::names::NameError;

/// Why an address could not be connected to; what says more of the other side comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// A web server, or something on the way that answers like one.
    #[error("HTTP was answered there, not libp2p")]
    Http,
    /// Something that does not speak libp2p.
    #[error("something was answered there that is not libp2p")]
    Foreign,
    /// No common multiplexer.
    #[error("it speaks no multiplexer that is known here (Yamux)")]
    NoMuxer,
    /// No common security protocol.
    #[error("it speaks no security protocol that is known here (TLS 1.3, Noise)")]
    NoSecurity,
    /// Its public key can't be read.
    #[error("its identity is of a kind that is not known here")]
    UnknownKey,
    /// The handshake failed, by an error without a name of its own.
    #[error("no secure connection could be agreed on")]
    Insecure,
    /// It knows nobody by that identity.
    #[error("the other side is not reachable through the relay")]
    UnknownThere,
    /// The relay lets no more through.
    #[error("the relay has no room")]
    Full,
    /// The way to the relay failed.
    #[error("the relay could not be reached")]
    NoRelay,
    /// The connection stood, and was closed during the handshake.
    #[error("the other side closed the connection")]
    Closed,
    /// The connection stands, and nothing comes on it.
    #[error("it takes the connection and then says nothing")]
    Silent,
    /// Nothing listens there, or a firewall says so.
    #[error("connection refused")]
    Refused,
    /// Nothing came back.
    #[error("timed out")]
    TimedOut,
    /// There is no way there.
    #[error("the network is unreachable from here")]
    Unreachable,
    /// It is in a private network, and nobody has named it who may.
    #[error("the address is in a private network, and a stranger has named it")]
    Forbidden,
    /// A transport that this program does not have, or that is turned off.
    #[error("the address is not supported")]
    Unsupported,
    /// A name in the address has no records, or nobody says which.
    #[error("a name could not be resolved")]
    Unnamed,
}

/// A reason that is found as the cause of the errors around it: `Either` shows the causes of what it holds, and not that.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Caused(#[source] Reason);

impl Reason {
    /// Whether something came back from there, whatever it was.
    pub fn has_answered(self) -> bool {
        self < Self::Refused
    }

    /// Looks through an error and its causes for something that has a plain name.
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
        // Some layers of libp2p hide the error below behind its text.
        of_text(&text)
    }

    /// As [`of`](Self::of), if it found anything.
    fn found(error: &(dyn Error + 'static)) -> Option<Self> {
        Some(Self::of(error)).filter(|reason| *reason != Self::Insecure)
    }
}

impl From<Reason> for Caused {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

/// Of a transport that hides its errors.
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
        // What an I/O error holds is not among its causes.
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

/// An address with a name in it stands for several; the one that got furthest tells most.
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
        // Of the layer around securing and multiplexing; that connections time out is told apart before.
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

/// Why one address of a dial of the swarm failed.
pub(crate) fn of_address(error: &TransportError<io::Error>) -> Reason {
    match error {
        TransportError::MultiaddrNotSupported(_) => Reason::Unsupported,
        // It holds a `Reason`, as the stack made it.
        TransportError::Other(error) => Reason::of(error),
    }
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
            .map(|(_, failure)| of_address(failure).to_string())
            .collect(),
    }
}

/// Why a connection ended that did not end properly, where that has a name.
pub(crate) fn of_loss(cause: Option<&ConnectionError>) -> Option<Reason> {
    let Some(ConnectionError::IO(error)) = cause else {
        return None;
    };
    // A single multiplexer is spoken before the other side has agreed to it.
    match Reason::found(error)? {
        Reason::NoSecurity => Some(Reason::NoMuxer),
        reason => Some(reason),
    }
}

/// Why a connection ended; `None` is a proper close.
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
