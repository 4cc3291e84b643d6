//! Legacy codes: `SHARECODE:ENCRYPTIONKEY:IP:PORT`, for the local network.

use std::net::IpAddr;
use std::num::NonZeroU16;

use multiaddr::Protocol;

use super::{CodeError, Ticket, decode_key, encode_key};
use crate::Multiaddr;
use crate::secret::{ShareCodeLabel, ShareSecret};

/// A legacy code. It does not name the sharer's identity: the peer that proves the key at the address is the sharer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyCode {
    /// The share's public label.
    pub share_code: ShareCodeLabel,
    /// The share's secret.
    pub secret: ShareSecret,
    /// The sharer's address.
    pub ip: IpAddr,
    /// The sharer's port, for TCP and QUIC.
    pub port: NonZeroU16,
}

impl LegacyCode {
    /// Parses a code with nothing around it. Brackets around an IPv6 address are optional.
    pub(super) fn parse(code: &str) -> Result<Self, CodeError> {
        let mut parts = code.splitn(3, ':');
        let (Some(label), Some(key), Some(address)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(CodeError::LegacyParts);
        };
        let (ip, port) = address.rsplit_once(':').ok_or(CodeError::LegacyParts)?;
        let share_code = ShareCodeLabel::parse(label).map_err(|_| CodeError::Label)?;
        let secret = decode_key(key)?;
        let ip = parse_ip(ip).ok_or(CodeError::LegacyIp)?;
        // Only digits: `u16` would accept a plus sign too.
        let digits = port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        Ok(Self {
            share_code,
            secret,
            ip,
            port: port.ok_or(CodeError::LegacyPort)?,
        })
    }

    /// Converts a ticket, with the first IPv4 address over TCP in it, or the first IPv6 one if there is none.
    pub fn of(ticket: &Ticket) -> Option<Self> {
        let sockets: Vec<_> = ticket.addresses.iter().filter_map(tcp_socket).collect();
        let first = sockets
            .iter()
            .find(|(ip, _)| ip.is_ipv4())
            .or(sockets.first());
        let (ip, port) = *first?;
        Some(Self {
            share_code: ticket.share_code.clone(),
            secret: ticket.secret.clone(),
            ip,
            port,
        })
    }

    /// Returns the code as text, which contains the secret.
    pub fn encode(&self) -> String {
        let key = encode_key(&self.secret);
        let Self {
            share_code,
            ip,
            port,
            ..
        } = self;
        match ip {
            IpAddr::V4(ip) => format!("{share_code}:{}:{ip}:{port}", *key),
            IpAddr::V6(ip) => format!("{share_code}:{}:[{ip}]:{port}", *key),
        }
    }

    /// Returns the addresses to dial: TCP, then QUIC.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let host = Multiaddr::from(self.ip);
        let port = self.port.get();
        vec![
            host.clone().with(Protocol::Tcp(port)),
            host.with(Protocol::Udp(port)).with(Protocol::QuicV1),
        ]
    }
}

fn tcp_socket(address: &Multiaddr) -> Option<(IpAddr, NonZeroU16)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else {
        return None;
    };
    // What follows may lead elsewhere: over a relay, or over another protocol than plain TCP.
    let is_own = parts.all(|part| matches!(part, Protocol::P2p(_)));
    Some((ip, NonZeroU16::new(port)?)).filter(|_| is_own)
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::LEGACY;
    use super::*;
    use crate::PeerId;

    fn code(ip: &str) -> LegacyCode {
        LegacyCode {
            share_code: ShareCodeLabel::parse("GAZ3-VTDS-YQP7").unwrap(),
            secret: ShareSecret::from_bytes([7; 32]),
            ip: ip.parse().unwrap(),
            port: NonZeroU16::new(47820).unwrap(),
        }
    }

    #[test]
    fn a_code_is_written_so() {
        let [v4, v6] = ["10.148.96.12", "fd00::12"].map(code);
        let dial: Vec<_> = v6.addresses().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!([v4.encode(), v6.encode(), dial.join(" ")].join("\n"));
    }

    /// A legacy code named the relay's address, where the sharer does not answer.
    #[test]
    fn the_address_of_a_relay_is_not_taken_for_the_sharer_s() {
        let peer = PeerId::from_bytes(&[0, 1, 7]).unwrap();
        let through = format!("/ip4/192.0.2.1/tcp/4001/p2p/{peer}/p2p-circuit");
        let ticket = |addresses: &[&str]| Ticket {
            peer,
            addresses: addresses.iter().map(|at| at.parse().unwrap()).collect(),
            secret: ShareSecret::from_bytes([7; 32]),
            share_code: ShareCodeLabel::parse("GAZ3-VTDS-YQP7").unwrap(),
        };
        let own = ticket(&[&through, "/ip4/192.0.2.9/tcp/4001"]);
        let ip = LegacyCode::of(&own).map(|code| code.ip.to_string());
        assert_eq!(ip.as_deref(), Some("192.0.2.9"));
        let relayed = ticket(&[&through, "/ip4/192.0.2.1/tcp/443/tls/ws"]);
        assert_eq!(LegacyCode::of(&relayed), None);
    }

    #[test]
    fn an_ipv6_address_is_read_with_and_without_brackets() {
        let code = code("fd00::12");
        let text = code.encode();
        assert_eq!(LegacyCode::parse(&text), Ok(code.clone()));
        assert_eq!(LegacyCode::parse(&text.replace(['[', ']'], "")), Ok(code));
    }

    #[test]
    fn each_part_is_checked() {
        for (from, to, error) in [
            (":47820", "", CodeError::LegacyParts),
            (":10.148.96.12:47820", ":x", CodeError::LegacyParts),
            ("GAZ3", "GAZ0", CodeError::Label),
            (":hRo", ":hR", CodeError::Key),
            ("sfGA:", "sfGB:", CodeError::Key),
            ("sfGA:", "sfGAAA:", CodeError::Key),
            ("10.148.96.12", "10.148.96", CodeError::LegacyIp),
            ("10.148.96.12", "host.example", CodeError::LegacyIp),
            ("10.148.96.12", "[10.148.96.12]", CodeError::LegacyIp),
            ("10.148.96.12", "[fd00::1", CodeError::LegacyIp),
            ("10.148.96.12", "fe80::1%eth0", CodeError::LegacyIp),
            ("47820", "0", CodeError::LegacyPort),
            ("47820", "65536", CodeError::LegacyPort),
            ("47820", "+80", CodeError::LegacyPort),
            ("47820", "", CodeError::LegacyPort),
        ] {
            let text = LEGACY.replace(from, to);
            assert_eq!(LegacyCode::parse(&text), Err(error), "{text}");
        }
        assert!(LegacyCode::parse(&LEGACY.replace("47820", "65535")).is_ok());
    }

    /// Row 25.
    #[test]
    fn debug_does_not_show_the_secret() {
        let shown = format!("{:?}", LegacyCode::parse(LEGACY).unwrap());
        assert!(!shown.contains("hRoI") && shown.contains("10.148.96.12"));
    }

    proptest! {
        #[test]
        fn every_code_is_read_back(secret: [u8; 32], ip: IpAddr, port: NonZeroU16) {
            let share_code = ShareCodeLabel::parse("GAZ3-VTDS-YQP7").unwrap();
            let code = LegacyCode { share_code, secret: ShareSecret::from_bytes(secret), ip, port };
            prop_assert_eq!(LegacyCode::parse(&code.encode()), Ok(code));
        }

        #[test]
        fn no_text_breaks_the_parser(text: String) {
            let _ = LegacyCode::parse(&text);
        }
    }
}
