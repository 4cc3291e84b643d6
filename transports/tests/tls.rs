//! Tests of TLS between this crate's upgrade and libp2p's own.

use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::{Keypair, PeerId};
use handover_transports::libp2p::tls::{PROTOCOL, Tls};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p_tls::TlsStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, DigitallySignedStruct, NamedGroup, SignatureScheme};
use tokio::io::DuplexStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

type Socket = Compat<DuplexStream>;
type Secured = (PeerId, TlsStream<Socket>);

fn peer(keypair: &Keypair) -> PeerId {
    keypair.public().to_peer_id()
}

async fn secure<D, L>(dialler: D, listener: L) -> (Secured, Secured)
where
    D: OutboundConnectionUpgrade<Socket, Info = &'static str, Output = Secured>,
    L: InboundConnectionUpgrade<Socket, Info = &'static str, Output = Secured>,
    D::Error: std::fmt::Debug,
    L::Error: std::fmt::Debug,
{
    let (a, b) = tokio::io::duplex(1 << 16);
    let (a, b) = tokio::join!(
        dialler.upgrade_outbound(a.compat(), PROTOCOL),
        listener.upgrade_inbound(b.compat(), PROTOCOL),
    );
    (a.unwrap(), b.unwrap())
}

/// Checks that both sides identify each other, that bytes are transferred, and that AES-256 was negotiated.
async fn check((a, mut at_a): Secured, (b, mut at_b): Secured, expected: (PeerId, PeerId)) {
    assert_eq!((b, a), expected);
    at_a.write_all(b"from the dialler").await.unwrap();
    at_a.flush().await.unwrap();
    let mut got = [0; 16];
    at_b.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"from the dialler");
    for stream in [&at_a, &at_b] {
        let state = stream.get_ref().1;
        let suite = state.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);
        let group = state.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        assert_eq!(state.alpn_protocol(), Some(&b"libp2p"[..]));
    }
}

#[tokio::test]
async fn it_speaks_with_itself() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (at_a, at_b) = secure(Tls::new(&a).unwrap(), Tls::new(&b).unwrap()).await;
    check(at_a, at_b, (peer(&a), peer(&b))).await;
}

#[tokio::test]
async fn it_speaks_with_libp2p_when_dialling() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let stock = libp2p_tls::Config::new(&b).unwrap();
    let (at_a, at_b) = secure(Tls::new(&a).unwrap(), stock).await;
    check(at_a, at_b, (peer(&a), peer(&b))).await;
}

#[tokio::test]
async fn it_speaks_with_libp2p_when_listening_and_its_order_holds() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let stock = libp2p_tls::Config::new(&a).unwrap();
    let (at_a, at_b) = secure(stock, Tls::new(&b).unwrap()).await;
    check(at_a, at_b, (peer(&a), peer(&b))).await;
}

#[tokio::test]
async fn whoever_shows_no_certificate_is_refused() {
    let (a, b) = tokio::io::duplex(1 << 16);
    let listener = Tls::new(&Keypair::generate_ed25519()).unwrap();
    let listening = tokio::spawn(listener.upgrade_inbound(b.compat(), PROTOCOL));
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"libp2p".to_vec()];
    let name = ServerName::try_from("handover.invalid").unwrap();
    let connector = futures_rustls::TlsConnector::from(Arc::new(config));
    // The handshake may look complete to the client: the refusal comes after its last message.
    let (_client, outcome) = tokio::join!(connector.connect(name, a.compat()), listening);
    assert!(outcome.unwrap().is_err());
}

/// Accepts every server.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
