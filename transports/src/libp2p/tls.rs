//! TLS 1.3 between libp2p peers, with AES first.
//!
//! This is `/tls/1.0.0` of the libp2p specification: both sides present one self-signed certificate that contains the
//! peer's public key and its signature. libp2p-tls generates and parses the certificates. Three things differ from its
//! own upgrade: the order of the cipher suites (it prefers `ChaCha20`, which has less than half the throughput of
//! AES-GCM on processors with AES instructions); this side's order applies on both sides of a connection; and sessions
//! are never resumed, so that every connection proves its identity afresh.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::PeerId;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p_tls::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName,
    OtherError, ServerConfig, SignatureScheme, SupportedCipherSuite, version,
};

/// Protocol name in the negotiation.
pub const PROTOCOL: &str = "/tls/1.0.0";

/// The protocol that the specification requires in ALPN.
const ALPN: &[u8] = b"libp2p";

/// Cipher suites in order of preference.
const CIPHER_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Signature schemes that libp2p peers use in handshakes, elliptic curves first.
const SIGNATURE_SCHEMES: [SignatureScheme; 9] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// TLS could not be set up, or a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate could be generated for the identity.
    #[error("can't make a certificate: {0}")]
    Certificate(#[from] certificate::GenError),
    /// rustls rejected the configuration.
    #[error("can't set TLS up: {0}")]
    Config(#[from] rustls::Error),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The handshake ended without exactly one valid certificate.
    #[error("the peer showed no usable certificate")]
    NoCertificate,
}

/// Secures connections with one identity.
#[derive(Clone)]
pub struct Tls {
    client: TlsConnector,
    server: TlsAcceptor,
}

impl Tls {
    /// Creates TLS for the identity `keypair`, with a new certificate.
    pub fn new(keypair: &Keypair) -> Result<Self, TlsError> {
        let (certificate, key) = certificate::generate(keypair)?;
        let key = aws_lc_rs::sign::any_ecdsa_type(&key)?;
        let own = Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            vec![certificate],
            key,
        )));
        let provider = Arc::new(CryptoProvider {
            cipher_suites: CIPHER_SUITES.to_vec(),
            ..aws_lc_rs::default_provider()
        });

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Libp2pVerifier))
            .with_client_cert_resolver(Arc::clone(&own) as _);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(Libp2pVerifier))
            .with_cert_resolver(own);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.ignore_client_order = true;
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});

        Ok(Self {
            client: TlsConnector::from(Arc::new(client)),
            server: TlsAcceptor::from(Arc::new(server)),
        })
    }
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl<C> InboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, TlsStream<C>);
    type Error = TlsError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        async move {
            let stream = self
                .server
                .accept(socket)
                .await
                .map_err(TlsError::Handshake)?;
            let peer = shown_peer(stream.get_ref().1)?;
            Ok((peer, TlsStream::from(stream)))
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, TlsStream<C>);
    type Error = TlsError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        async move {
            // The specification forbids server name indication; with an IP address none is sent.
            let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
            let stream = self
                .client
                .connect(name, socket)
                .await
                .map_err(TlsError::Handshake)?;
            let peer = shown_peer(stream.get_ref().1)?;
            Ok((peer, TlsStream::from(stream)))
        }
        .boxed()
    }
}

/// The peer named by the certificate of a finished handshake.
fn shown_peer(state: &CommonState) -> Result<PeerId, TlsError> {
    match state.peer_certificates() {
        Some([certificate]) => certificate::parse(certificate)
            .map(|certificate| certificate.peer_id())
            .map_err(|_| TlsError::NoCertificate),
        _ => Err(TlsError::NoCertificate),
    }
}

/// Accepts any peer that presents exactly one self-signed certificate whose libp2p extension contains a public key and
/// a signature made with it. The swarm compares the peer with the one dialled after the handshake.
#[derive(Debug)]
struct Libp2pVerifier;

impl Libp2pVerifier {
    fn certificate(
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !intermediates.is_empty() {
            return Err(rustls::Error::General(
                "more than one certificate was shown".into(),
            ));
        }
        // `parse` also checks the validity period and both signatures.
        certificate::parse(end_entity)
            .map(|_| ())
            .map_err(bad_certificate)
    }

    fn signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(certificate)
            .map_err(bad_certificate)?
            .verify_signature(signed.scheme, message, signed.signature())
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadSignature))?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn only_tls13() -> rustls::Error {
        rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic)
    }
}

fn bad_certificate(error: certificate::ParseError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for Libp2pVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::certificate(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURE_SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for Libp2pVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::certificate(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURE_SCHEMES.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_damaged_certificate_panics_or_passes_for_another_peer() {
        let keypair = Keypair::generate_ed25519();
        let (whole, _) = certificate::generate(&keypair).unwrap();
        let own = keypair.public().to_peer_id();
        Libp2pVerifier::certificate(&whole, &[]).unwrap();
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] ^= flip;
                let damaged = CertificateDer::from(bytes);
                if Libp2pVerifier::certificate(&damaged, &[]).is_ok() {
                    let peer = certificate::parse(&damaged).unwrap().peer_id();
                    assert_eq!(peer, own, "byte {at}");
                }
            }
            let cut = CertificateDer::from(whole[..at].to_vec());
            Libp2pVerifier::certificate(&cut, &[]).unwrap_err();
        }
    }

    #[test]
    fn exactly_one_certificate_is_taken() {
        let (one, _) = certificate::generate(&Keypair::generate_ed25519()).unwrap();
        let two = [one.clone()];
        Libp2pVerifier::certificate(&one, &two).unwrap_err();
    }
}
