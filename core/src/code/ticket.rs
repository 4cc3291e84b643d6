//! Tickets: JSON in base64url without padding.

use data_encoding::BASE64URL_NOPAD;
use multiaddr::Protocol;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::{CodeError, MAX_ADDRESS, MAX_ADDRESSES, decode_base64, decode_key, encode_key};
use crate::secret::{ShareCodeLabel, ShareSecret};
use crate::{Multiaddr, PeerId};

/// A ticket: the sharer's identity and addresses, and the secret that opens the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The sharer.
    pub peer: PeerId,
    /// Its addresses, without a trailing `/p2p/…` of the sharer. [`Ticket::encode`] writes up to [`MAX_ADDRESSES`].
    pub addresses: Vec<Multiaddr>,
    /// The share's secret.
    pub secret: ShareSecret,
    /// The share's public label.
    pub share_code: ShareCodeLabel,
}

/// The JSON that this implementation writes: these keys in this order, no spaces.
#[derive(Serialize)]
struct Written<'a> {
    peer_id: String,
    addresses: Vec<String>,
    encryption_key: &'a str,
    share_code: &'a str,
}

/// The JSON of any implementation. Fields are optional so that the error can name a missing one.
#[derive(Deserialize)]
struct Read {
    peer_id: Option<String>,
    #[serde(default)]
    addresses: Vec<String>,
    encryption_key: Option<String>,
    share_code: Option<String>,
}

impl Ticket {
    /// Parses a ticket with nothing around it. Unknown fields are ignored.
    pub(super) fn parse(code: &str) -> Result<Self, CodeError> {
        let json = decode_base64(code).ok_or_else(|| undecodable(code))?;
        // serde_json's own message would quote the text, which may include the key.
        let read: Read = serde_json::from_slice(&json).map_err(|error| match error.classify() {
            Category::Eof if json.starts_with(b"{") => CodeError::CutOff,
            _ => CodeError::NotATicket,
        })?;
        let missing = CodeError::Missing;
        let key = read.encryption_key.map(Zeroizing::new);
        let peer: PeerId = read
            .peer_id
            .ok_or(missing("peer_id"))?
            .parse()
            .map_err(|_| CodeError::Peer)?;
        let key = key.ok_or(missing("encryption_key"))?;
        let label = read.share_code.ok_or(missing("share_code"))?;
        Ok(Self {
            peer,
            addresses: read_addresses(&read.addresses, &peer)?,
            secret: decode_key(&key)?,
            share_code: ShareCodeLabel::parse(&label).map_err(|_| CodeError::Label)?,
        })
    }

    /// Returns the ticket as text, which contains the secret. The same ticket always gives the same text.
    pub fn encode(&self) -> String {
        BASE64URL_NOPAD.encode(self.json().as_bytes())
    }

    fn json(&self) -> Zeroizing<String> {
        let addresses = self.addresses.iter().take(MAX_ADDRESSES);
        let written = Written {
            peer_id: self.peer.to_base58(),
            addresses: addresses.map(ToString::to_string).collect(),
            encryption_key: &encode_key(&self.secret),
            share_code: self.share_code.as_str(),
        };
        Zeroizing::new(serde_json::to_string(&written).expect("strings can be written as JSON"))
    }
}

/// Returns the error for text that is not valid base64. A truncated code may have a length that base64 never has.
fn undecodable(code: &str) -> CodeError {
    let is_base64 = |c: u8| c.is_ascii_alphanumeric() || b"+/-_=".contains(&c);
    if !code.bytes().all(is_base64) {
        CodeError::NotBase64
    } else if code.starts_with("ey") {
        // `{"` in base64: the start of every ticket that this implementation writes.
        CodeError::CutOff
    } else {
        CodeError::NotATicket
    }
}

fn read_addresses(texts: &[String], peer: &PeerId) -> Result<Vec<Multiaddr>, CodeError> {
    if texts.len() > MAX_ADDRESSES {
        return Err(CodeError::TooManyAddresses);
    }
    // Users count addresses from one.
    let numbered = texts.iter().zip(1..);
    numbered
        .map(|(text, number)| {
            let address = Some(text).filter(|text| text.len() <= MAX_ADDRESS);
            let address = address.and_then(|text| text.parse::<Multiaddr>().ok());
            let address = address.ok_or(CodeError::Address(number))?;
            let address = without_peer(address, peer).ok_or(CodeError::OtherPeer(number))?;
            if address.is_empty() {
                return Err(CodeError::Address(number));
            }
            Ok(address)
        })
        .collect()
}

/// Removes a trailing `/p2p/…` of `peer` from the address. `None` if the address leads to another peer. The relay of a
/// circuit address is another peer, but not the one that the address leads to.
fn without_peer(mut address: Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
    if let Some(Protocol::P2p(last)) = address.iter().last() {
        if last != *peer {
            return None;
        }
        address.pop();
    }
    let mut parts = address.iter().peekable();
    while let Some(part) = parts.next() {
        let is_relay = matches!(parts.peek(), Some(Protocol::P2pCircuit));
        if matches!(part, Protocol::P2p(_)) && !is_relay {
            return None;
        }
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use libp2p_identity::Keypair;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::ShareCode;
    use super::*;

    const RELAY: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    fn peer(seed: u8) -> PeerId {
        let keys = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        keys.public().to_peer_id()
    }

    fn ticket() -> Ticket {
        Ticket {
            peer: peer(1),
            addresses: vec![
                "/ip4/203.0.113.9/tcp/47820".parse().unwrap(),
                "/ip4/203.0.113.9/udp/47820/quic-v1".parse().unwrap(),
                format!("/ip6/2001:db8::1/tcp/1/p2p/{RELAY}/p2p-circuit")
                    .parse()
                    .unwrap(),
            ],
            secret: ShareSecret::from_bytes([0xfb; 32]),
            share_code: ShareCodeLabel::parse("GAZ3-VTDS-YQP7").unwrap(),
        }
    }

    fn value() -> Value {
        serde_json::from_str(&ticket().json()).unwrap()
    }

    fn parse(value: &Value) -> Result<Ticket, CodeError> {
        Ticket::parse(&BASE64URL_NOPAD.encode(value.to_string().as_bytes()))
    }

    #[test]
    fn a_ticket_is_written_so() {
        let ticket = ticket();
        insta::assert_snapshot!([ticket.json().as_str(), &ticket.encode()].join("\n"));
    }

    #[test]
    fn a_ticket_is_read_in_either_alphabet_padded_and_wrapped() {
        let mut value = value();
        value["peer_name"] = json!("ÿ?~ß>>>");
        value["later"] = json!({"nested": [1, null]});
        let json = value.to_string();
        let padded = BASE64.encode(json.as_bytes());
        assert!(padded.contains('+') || padded.contains('/'));
        let wrapped: String = padded
            .chars()
            .enumerate()
            .flat_map(|(at, c)| {
                let line_break = if at % 60 == 59 { "\r\n  " } else { "" };
                line_break.chars().chain([c])
            })
            .collect();
        for code in [padded, wrapped, BASE64URL_NOPAD.encode(json.as_bytes())] {
            assert_eq!(ShareCode::parse(&code), Ok(ShareCode::Ticket(ticket())));
        }
    }

    #[test]
    fn the_key_too_is_read_in_either_alphabet() {
        let mut value = value();
        value["encryption_key"] = json!(BASE64.encode(&[0xfb; 32]));
        assert_eq!(parse(&value), Ok(ticket()));
    }

    #[test]
    fn each_field_is_checked() {
        for field in ["peer_id", "encryption_key", "share_code"] {
            let mut value = value();
            value.as_object_mut().unwrap().remove(field);
            assert_eq!(parse(&value), Err(CodeError::Missing(field)));
            value[field] = json!(7);
            assert_eq!(parse(&value), Err(CodeError::NotATicket));
        }
        for (field, bad, error) in [
            ("peer_id", "12D3Koo", CodeError::Peer),
            ("encryption_key", "AAAA", CodeError::Key),
            ("encryption_key", "", CodeError::Key),
            ("share_code", "GAZ3", CodeError::Label),
        ] {
            let mut value = value();
            value[field] = json!(bad);
            assert_eq!(parse(&value), Err(error));
        }
        let mut value = value();
        value.as_object_mut().unwrap().remove("addresses");
        assert_eq!(parse(&value).map(|ticket| ticket.addresses), Ok(vec![]));
    }

    #[test]
    fn a_ticket_cut_off_anywhere_is_an_error() {
        let code = ticket().encode();
        for end in 1..code.len() {
            let error = Ticket::parse(code.get(..end).unwrap()).unwrap_err();
            // A single base64 character encodes less than a byte.
            let expected = if end == 1 {
                CodeError::NotATicket
            } else {
                CodeError::CutOff
            };
            assert_eq!(error, expected, "{end}");
        }
    }

    /// Row 27: an address can't lead to another peer than the ticket names.
    #[test]
    fn an_address_of_another_peer_is_refused_and_the_sharers_own_name_stripped() {
        let with = |address: String| {
            let mut value = value();
            value["addresses"] = json!(["/ip4/192.0.2.1/tcp/1", address]);
            let second = |ticket: Ticket| ticket.addresses.get(1).unwrap().to_string();
            parse(&value).map(second)
        };
        let (own, other) = (peer(1), peer(2));
        let plain = "/ip4/192.0.2.1/tcp/2";
        assert_eq!(with(format!("{plain}/p2p/{own}")), Ok(plain.into()));
        let circuit = format!("{plain}/p2p/{other}/p2p-circuit");
        assert_eq!(with(circuit.clone()), Ok(circuit.clone()));
        assert_eq!(with(format!("{circuit}/p2p/{own}")), Ok(circuit.clone()));

        let refused = Err(CodeError::OtherPeer(2));
        assert_eq!(with(format!("{plain}/p2p/{other}")), refused);
        assert_eq!(with(format!("{circuit}/p2p/{other}")), refused);
        assert_eq!(with(format!("{plain}/p2p/{other}/tcp/3")), refused);
        assert_eq!(with(format!("/p2p/{own}")), Err(CodeError::Address(2)));
        assert_eq!(with(String::new()), Err(CodeError::Address(2)));
        assert_eq!(with("/ip4/1.2.3/tcp/1".into()), Err(CodeError::Address(2)));
    }

    /// Row 14.
    #[test]
    fn addresses_are_bounded_in_number_and_length() {
        let mut value = value();
        value["addresses"] = json!(vec!["/ip4/192.0.2.1/tcp/1"; 32]);
        assert_eq!(parse(&value).unwrap().addresses.len(), 32);
        value["addresses"] = json!(vec!["/ip4/192.0.2.1/tcp/1"; 33]);
        assert_eq!(parse(&value), Err(CodeError::TooManyAddresses));
        let limits = crate::limits::Limits::default();
        assert_eq!(limits.addresses, MAX_ADDRESSES);

        let long = |n: usize| format!("/dns4/{}", "x".repeat(n - 6));
        value["addresses"] = json!([long(256)]);
        assert_eq!(parse(&value).unwrap().addresses.len(), 1);
        value["addresses"] = json!([long(257)]);
        assert_eq!(parse(&value), Err(CodeError::Address(1)));

        let mut many = ticket();
        many.addresses = vec!["/ip4/192.0.2.1/tcp/1".parse().unwrap(); 40];
        let read = Ticket::parse(&many.encode()).unwrap();
        assert_eq!(read.addresses.len(), 32);
    }

    /// Row 25.
    #[test]
    fn debug_does_not_show_the_secret() {
        let ticket = ticket();
        let shown = format!("{ticket:?}");
        assert!(shown.contains("ShareSecret(..)"));
        assert!(!shown.contains(encode_key(&ticket.secret).as_str()) && !shown.contains("251"));
    }

    proptest! {
        #[test]
        fn every_ticket_is_read_back(seed in 1u8.., secret: [u8; 32], ports: Vec<(u32, u16)>) {
            let addresses = ports.iter().take(MAX_ADDRESSES).map(|(ip, port)| {
                Multiaddr::from(std::net::Ipv4Addr::from_bits(*ip)).with(Protocol::Tcp(*port))
            });
            let ticket = Ticket {
                peer: peer(seed),
                addresses: addresses.collect(),
                secret: ShareSecret::from_bytes(secret),
                share_code: ShareCodeLabel::parse("AAAA-BBBB-2222").unwrap(),
            };
            prop_assert_eq!(ShareCode::parse(&ticket.encode()), Ok(ShareCode::Ticket(ticket)));
        }

        #[test]
        fn no_bytes_break_the_parser(bytes: Vec<u8>, at: usize, byte: u8, address: String) {
            let _ = Ticket::parse(&BASE64URL_NOPAD.encode(&bytes));
            let mut json = ticket().json().as_bytes().to_vec();
            let at = at % json.len();
            json[at] = byte;
            let _ = Ticket::parse(&BASE64URL_NOPAD.encode(&json));
            let mut value = value();
            value["addresses"] = json!([address, format!("/{address}"), format!("/ip4/{address}")]);
            let _ = parse(&value);
        }
    }
}
