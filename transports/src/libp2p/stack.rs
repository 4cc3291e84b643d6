//! What a connection is made of: TCP secured by TLS or Noise and multiplexed by Yamux, QUIC, which is all in one, or a
//! circuit through a relay, which is treated as TCP is.

use std::io;
use std::time::Duration;

use futures::future::{BoxFuture, Either};
use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite, FutureExt, TryFutureExt};
use futures_rustls::TlsStream;
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::{TransportTimeout, TransportTimeoutError};
use libp2p::core::transport::{Boxed, OptionalTransport, Transport as _};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, Version};
use libp2p::identity::Keypair;
use libp2p::swarm::derive_prelude::Either as EitherError;
use libp2p::{PeerId, noise, quic, tcp};

use super::circuit;
use super::greeting::Greeted;
use super::interfaces::OnOwnAddresses;
use super::lingering::Lingering;
use super::muxer::Yamux;
use super::names::{Names, System};
use super::outbound::{Gated, Permits};
use super::reason::{Caused, Reason};
use super::segments::SmallSegments;
use super::tls::{Tls, TlsError};

/// How long connecting, securing and multiplexing may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long connecting alone may: less, so that a node that takes connections and says nothing is told from one that
/// does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(7);

/// Bytes asked of a socket at once. TLS alone asks for one record of 16 KiB at a time, and each call has the kernel
/// tell the other side of the room that it made. The memory is only touched as far as bytes come.
const READ_AHEAD: usize = 256 << 10;

/// Connections, secured and multiplexed.
pub(crate) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// The direct connections a swarm can make, to addresses that may be dialled. `names`: also to such with names in them.
pub(crate) fn build(
    keypair: &Keypair,
    (with_tcp, with_quic): (bool, bool),
    names: bool,
    permits: &Permits,
) -> Result<Connections, SecurityError> {
    let tcp = if with_tcp {
        let sockets = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let sockets = SmallSegments::new(sockets);
        let transport = TransportTimeout::with_outgoing_timeout(sockets, CONNECT_TIMEOUT)
            .map_err(|error| Caused::from(of_connecting(&error)))
            .map(|socket, endpoint| {
                let greeted = Greeted::new(Lingering::new(socket), endpoint.is_dialer());
                BufReader::with_capacity(READ_AHEAD, greeted)
            })
            .upgrade(Version::V1Lazy)
            .authenticate(Security::new(keypair)?)
            .multiplex(Yamux)
            .timeout(HANDSHAKE_TIMEOUT)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .map_err(|error| Reason::of(&error));
        OptionalTransport::some(transport)
    } else {
        OptionalTransport::none()
    };
    let quic = if with_quic {
        let transport = quic::tokio::Transport::new(quic::Config::new(keypair))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .map_err(|error| Reason::of(&error));
        OptionalTransport::some(transport)
    } else {
        OptionalTransport::none()
    };
    let direct = tcp
        .or_transport(quic)
        .map(|either, _| either.into_inner())
        .map_err(EitherError::either_into::<Caused>);
    let direct = Gated::new(OnOwnAddresses::new(direct), permits.clone());
    if !names {
        return Ok(direct.boxed());
    }
    match System::new() {
        Ok(system) => {
            let resolving = Names::of_system(direct, system, permits.clone());
            Ok(resolving.map_err(|error| Reason::of(&error)).boxed())
        }
        Err(error) => {
            tracing::warn!(%error, "names can't be resolved; only addresses work");
            Ok(direct.boxed())
        }
    }
}

/// The same, and connections through relays, which are secured and multiplexed as TCP is.
pub(crate) fn with_relays(
    keypair: &Keypair,
    relays: circuit::Transport,
    direct: Connections,
) -> Result<Connections, SecurityError> {
    let relayed = relays
        .upgrade(Version::V1Lazy)
        .authenticate(Security::new(keypair)?)
        .multiplex(Yamux)
        .timeout(HANDSHAKE_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .map_err(|error| Reason::of(&error));
    // First: the others would take the way to the relay for the way to the peer.
    Ok(relayed
        .or_transport(direct)
        .map(|either, _| either.into_inner())
        .map_err(EitherError::either_into::<Caused>)
        .boxed())
}

/// Why a socket is not connected.
fn of_connecting(error: &TransportTimeoutError<io::Error>) -> Reason {
    match error {
        TransportTimeoutError::Timeout => Reason::TimedOut,
        TransportTimeoutError::TimerError(error) | TransportTimeoutError::Other(error) => {
            Reason::of(error)
        }
    }
}

/// A connection could not be secured.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Noise.
    #[error(transparent)]
    Noise(#[from] noise::Error),
}

/// TLS where the other side has it, else Noise.
#[derive(Clone)]
struct Security {
    tls: Tls,
    noise: noise::Config,
}

impl Security {
    fn new(keypair: &Keypair) -> Result<Self, SecurityError> {
        Ok(Self {
            tls: Tls::new(keypair)?,
            noise: noise::Config::new(keypair)?,
        })
    }
}

/// Which of the two was agreed on.
#[derive(Debug, Clone, Copy)]
enum Agreed {
    Tls(&'static str),
    Noise(&'static str),
}

impl AsRef<str> for Agreed {
    fn as_ref(&self) -> &str {
        match self {
            Self::Tls(name) | Self::Noise(name) => name,
        }
    }
}

impl UpgradeInfo for Security {
    type Info = Agreed;
    type InfoIter = Vec<Agreed>;

    fn protocol_info(&self) -> Self::InfoIter {
        let tls = self.tls.protocol_info().map(Agreed::Tls);
        tls.chain(self.noise.protocol_info().map(Agreed::Noise))
            .collect()
    }
}

type Secured<C> = (PeerId, Either<TlsStream<C>, noise::Output<C>>);

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Secured<C>;
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Secured<C>, SecurityError>>;

    fn upgrade_inbound(self, socket: C, agreed: Agreed) -> Self::Future {
        match agreed {
            Agreed::Tls(name) => self
                .tls
                .upgrade_inbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                .err_into()
                .boxed(),
            Agreed::Noise(name) => self
                .noise
                .upgrade_inbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Right(stream)))
                .err_into()
                .boxed(),
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Secured<C>;
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Secured<C>, SecurityError>>;

    fn upgrade_outbound(self, socket: C, agreed: Agreed) -> Self::Future {
        match agreed {
            Agreed::Tls(name) => self
                .tls
                .upgrade_outbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                .err_into()
                .boxed(),
            Agreed::Noise(name) => self
                .noise
                .upgrade_outbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Right(stream)))
                .err_into()
                .boxed(),
        }
    }
}
