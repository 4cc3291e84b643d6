//! The layers of a connection: TCP secured by TLS or Noise and multiplexed by Yamux; QUIC, which includes all of that;
//! or a circuit through a relay, which is secured and multiplexed like TCP.

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

/// Timeout for connecting, securing and multiplexing together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// Timeout for connecting alone. It is shorter, to tell a node that accepts connections and says nothing from one that
/// does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(7);

/// Size of the read buffer, in bytes. TLS alone reads one record of 16 KiB at a time, and after each read the kernel
/// tells the other side how much room was freed. Memory is only touched as far as it is filled.
const READ_AHEAD: usize = 256 << 10;

/// Secured and multiplexed connections.
pub(crate) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// Builds the transport for direct connections to permitted addresses. `names`: true to resolve names in addresses.
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

/// Adds connections through relays, which are secured and multiplexed like TCP.
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
    // First, because the others would mistake the relay's address for the peer's.
    Ok(relayed
        .or_transport(direct)
        .map(|either, _| either.into_inner())
        .map_err(EitherError::either_into::<Caused>)
        .boxed())
}

/// Why a socket could not be connected.
fn of_connecting(error: &TransportTimeoutError<io::Error>) -> Reason {
    match error {
        TransportTimeoutError::Timeout => Reason::TimedOut,
        TransportTimeoutError::TimerError(error) | TransportTimeoutError::Other(error) => {
            Reason::of(error)
        }
    }
}

/// Securing connections could not be set up, or failed.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A TLS error.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A Noise error.
    #[error(transparent)]
    Noise(#[from] noise::Error),
}

/// TLS if the other side supports it, otherwise Noise.
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

/// The security protocol that was negotiated.
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
