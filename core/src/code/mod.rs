//! Codes: what one person gives to another so that they can fetch a share.
//!
//! Codes arrive by mail, chat or screenshot, so the parser is lenient: spaces, line breaks, quotes and the command
//! around a code are ignored. Error messages tell the user how to get a good code. They never quote any part of the
//! code, which could be part of the secret.

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use crate::secret::{ShareCodeLabel, ShareSecret};
use crate::{Multiaddr, PeerId};

mod legacy;
pub mod short;
mod ticket;
pub mod words;

pub use legacy::LegacyCode;
pub use short::ShortCode;
pub use ticket::Ticket;

/// Maximum length of a code's text, in bytes.
pub const MAX_CODE: usize = 16 * 1024;
/// Maximum number of addresses in a ticket.
pub const MAX_ADDRESSES: usize = 32;
/// Maximum length of one address in a ticket as text, in bytes.
pub const MAX_ADDRESS: usize = 256;

/// A share's code, in any of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareCode {
    /// Base64 of JSON: the sharer's identity and addresses, and the secret.
    Ticket(Ticket),
    /// `SHARECODE:ENCRYPTIONKEY:IP:PORT`, for the local network.
    Legacy(LegacyCode),
    /// A number and words, to be read aloud.
    Short(ShortCode),
}

impl ShareCode {
    /// Parses a code of any form.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        if text.len() > MAX_CODE {
            return Err(CodeError::TooLong);
        }
        let code = bare(text);
        if code.is_empty() {
            Err(CodeError::Empty)
        } else if code.contains(':') {
            LegacyCode::parse(&code).map(Self::Legacy)
        } else if ShareCodeLabel::parse(&code).is_ok() {
            Err(CodeError::OnlyLabel)
        } else if is_short(&code) {
            ShortCode::parse(&code).map(Self::Short)
        } else {
            Ticket::parse(&code).map(Self::Ticket)
        }
    }

    /// Returns the code as text, as accepted by [`parse`](Self::parse).
    pub fn encode(&self) -> String {
        match self {
            Self::Ticket(ticket) => ticket.encode(),
            Self::Legacy(code) => code.encode(),
            Self::Short(code) => code.encode(),
        }
    }

    /// Returns the sharer's identity, if the code names it.
    pub fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Ticket(ticket) => Some(ticket.peer),
            Self::Legacy(_) | Self::Short(_) => None,
        }
    }

    /// Returns the sharer's addresses as claimed by the code: see [`crate::dial::vet`].
    pub fn addresses(&self) -> Vec<Multiaddr> {
        match self {
            Self::Ticket(ticket) => ticket.addresses.clone(),
            Self::Legacy(code) => code.addresses(),
            Self::Short(_) => Vec::new(),
        }
    }

    /// Returns the share's secret, if the code contains it.
    pub fn secret(&self) -> Option<&ShareSecret> {
        match self {
            Self::Ticket(ticket) => Some(&ticket.secret),
            Self::Legacy(code) => Some(&code.secret),
            Self::Short(_) => None,
        }
    }

    /// Returns the share's public label, if the code names it.
    pub fn share_code(&self) -> Option<&ShareCodeLabel> {
        match self {
            Self::Ticket(ticket) => Some(&ticket.share_code),
            Self::Legacy(code) => Some(&code.share_code),
            Self::Short(_) => None,
        }
    }
}

/// Why a code is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Empty, or only spaces and quotes.
    #[error("there is no code here; paste the one that the sender gave you")]
    Empty,
    /// Longer than [`MAX_CODE`].
    #[error("this is too long to be a code; paste the code alone")]
    TooLong,
    /// The number of a short code is out of range.
    #[error(
        "the number of this code should have seven digits; ask the sender to read it out again"
    )]
    ShortNumber,
    /// A short code has fewer than two words or more than four.
    #[error(
        "a short code is a number and two to four words, such as 4827193-amber-otter, and this is not; ask the sender to read it out again"
    )]
    ShortParts,
    /// A word is not in the list of short code words. The field is its position.
    #[error("the {0} word of this code is none that handover uses; ask the sender to spell it")]
    ShortWord(&'static str),
    /// Only a [`ShareCodeLabel`].
    #[error("this is only a share's label, which opens nothing; ask the sender for the whole code")]
    OnlyLabel,
    /// Not base64.
    #[error("this is not a handover code: it has characters in it that no code has")]
    NotBase64,
    /// Valid base64, but not of a ticket.
    #[error("this is not a handover code, or a part of it is missing; copy the whole code again")]
    NotATicket,
    /// The ticket is truncated.
    #[error("the end of this code is missing; copy the whole code again")]
    CutOff,
    /// A ticket lacks a mandatory field.
    #[error(
        "this code has no `{0}` in it; ask the sender for a new one, made by a current version"
    )]
    Missing(&'static str),
    /// `peer_id` is not a peer id.
    #[error("the code's `peer_id` is damaged; copy the whole code again")]
    Peer,
    /// More than [`MAX_ADDRESSES`].
    #[error("the code has more than {MAX_ADDRESSES} addresses in it; ask the sender for a new one")]
    TooManyAddresses,
    /// An address is not a multiaddress, or is longer than [`MAX_ADDRESS`]. The field counts from 1.
    #[error("address {0} of the code is damaged; copy the whole code again")]
    Address(usize),
    /// An address leads to a peer other than the sharer. The field counts from 1.
    #[error(
        "address {0} of the code leads to somebody other than its sender; do not use it, and ask for a new one"
    )]
    OtherPeer(usize),
    /// The key is not 32 bytes of base64.
    #[error("the code's encryption key is damaged; copy the whole code again")]
    Key,
    /// The label is invalid.
    #[error("the code's share code, such as GAZ3-VTDS-YQP7, is damaged; copy the whole code again")]
    Label,
    /// The code contains colons but does not have four parts.
    #[error(
        "a code with colons has four parts, SHARECODE:ENCRYPTIONKEY:IP:PORT, and this has not; copy the whole code again"
    )]
    LegacyParts,
    /// The third part is not an IP address.
    #[error(
        "the third part of this code should be an IP address, such as 192.168.1.20, and is not"
    )]
    LegacyIp,
    /// The last part is not a port.
    #[error("the last part of this code should be a port, a number from 1 to 65535, and is not")]
    LegacyPort,
}

/// Returns the code without the command around it, quotes, white space and invisible characters.
fn bare(text: &str) -> Zeroizing<String> {
    let is_quote = |c| {
        matches!(
            c,
            '"' | '\'' | '`' | '“' | '”' | '„' | '‘' | '’' | '«' | '»'
        )
    };
    let is_invisible = |c: &char| {
        matches!(
            c,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
        )
    };

    let text = text.trim().trim_matches(is_quote);
    let words: Vec<&str> = text
        .split_whitespace()
        .skip_while(|word| matches!(*word, "$" | "%" | "#" | ">"))
        .collect();
    let code: String = match words.as_slice() {
        [program, "get", rest @ ..] if is_handover(program) => {
            let options_follow = |word: &&&str| !word.starts_with('-');
            rest.iter().take_while(options_follow).copied().collect()
        }
        words => words.concat(),
    };
    let code = Zeroizing::new(code);
    let visible: String = code.chars().filter(|c| !is_invisible(c)).collect();
    let visible = Zeroizing::new(visible);
    Zeroizing::new(visible.trim_matches(is_quote).to_owned())
}

fn is_handover(program: &str) -> bool {
    let name = program.rsplit(['/', '\\']).next().unwrap_or_default();
    name == "handover" || name == "handover.exe"
}

/// True for the shape of `4827193-amber-otter`: digits, then words.
fn is_short(code: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphabetic());
    code.split_once('-').is_some_and(|(number, words)| {
        !number.is_empty()
            && number.bytes().all(|c| c.is_ascii_digit())
            && words.split('-').all(is_word)
    })
}

/// Decodes base64 in either alphabet, padded or not.
fn decode_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let url: String = text
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    let url = Zeroizing::new(url);
    BASE64URL_NOPAD
        .decode(url.as_bytes())
        .ok()
        .map(Zeroizing::new)
}

fn decode_key(text: &str) -> Result<ShareSecret, CodeError> {
    let bytes = decode_base64(text).ok_or(CodeError::Key)?;
    let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| CodeError::Key)?;
    Ok(ShareSecret::from_bytes(bytes))
}

fn encode_key(secret: &ShareSecret) -> Zeroizing<String> {
    Zeroizing::new(BASE64URL_NOPAD.encode(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    pub(super) const LEGACY: &str =
        "GAZ3-VTDS-YQP7:hRoIKioqKioqKioqKioqKioqKioqKioqKioqKiosfGA:10.148.96.12:47820";

    #[test]
    fn a_code_is_found_in_what_people_paste() {
        let code = ShareCode::parse(LEGACY).unwrap();
        for pasted in [
            format!("  {LEGACY}\r\n"),
            format!("\"{LEGACY}\""),
            format!("“{LEGACY}”"),
            format!("\u{feff}{LEGACY}\u{200b}"),
            format!("handover get {LEGACY}"),
            format!("$ ./handover get '{LEGACY}' --to Downloads"),
            format!("C:\\tools\\handover.exe get {LEGACY}"),
            format!("`handover get {LEGACY}`"),
            LEGACY.replace("KioqKiosfGA", "KioqKi\r\n   osfGA"),
        ] {
            assert_eq!(ShareCode::parse(&pasted), Ok(code.clone()), "{pasted}");
        }
        assert_eq!(code.encode(), LEGACY);
        assert_eq!(code.peer(), None);
        let label = code.share_code().map(ShareCodeLabel::as_str);
        assert_eq!(label, Some("GAZ3-VTDS-YQP7"));
    }

    #[test]
    fn what_is_no_code_is_told_apart() {
        for (text, error) in [
            ("", CodeError::Empty),
            (" \n\"\" ", CodeError::Empty),
            ("handover get", CodeError::Empty),
            ("handover get 7-Guitarist", CodeError::ShortNumber),
            ("gaz3-vtds-yqp7", CodeError::OnlyLabel),
            ("no code at all!", CodeError::NotBase64),
            ("hello", CodeError::NotATicket),
            ("https://example.org/", CodeError::LegacyParts),
            ("aGVsbG8", CodeError::NotATicket),
        ] {
            assert_eq!(ShareCode::parse(text), Err(error), "{text:?}");
        }
    }

    /// Row 14.
    #[test]
    fn a_code_is_so_long_at_the_most() {
        let padded = |spaces| format!("{LEGACY}{}", " ".repeat(spaces));
        assert!(ShareCode::parse(&padded(MAX_CODE - LEGACY.len())).is_ok());
        let over = ShareCode::parse(&padded(MAX_CODE - LEGACY.len() + 1));
        assert_eq!(over, Err(CodeError::TooLong));
    }

    #[test]
    fn errors_say_what_to_do() {
        let mut messages = String::new();
        for error in [
            CodeError::Empty,
            CodeError::TooLong,
            CodeError::ShortNumber,
            CodeError::ShortParts,
            CodeError::ShortWord("first"),
            CodeError::OnlyLabel,
            CodeError::NotBase64,
            CodeError::NotATicket,
            CodeError::CutOff,
            CodeError::Missing("peer_id"),
            CodeError::Peer,
            CodeError::TooManyAddresses,
            CodeError::Address(3),
            CodeError::OtherPeer(3),
            CodeError::Key,
            CodeError::Label,
            CodeError::LegacyParts,
            CodeError::LegacyIp,
            CodeError::LegacyPort,
        ] {
            writeln!(messages, "{error}").unwrap();
        }
        insta::assert_snapshot!(messages);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in prop_oneof![
            any::<String>(),
            "[A-Za-z0-9_=+/:.\\[\\] -]{0,100}",
            "(handover|get|[\"' ]|GAZ3-VTDS-YQP7|:|::1|\\[|\\]|0|47820|10\\.0\\.0\\.1|[A-Za-z0-9_-]{43}){0,9}",
        ]) {
            if let Ok(code) = ShareCode::parse(&text) {
                prop_assert_eq!(ShareCode::parse(&code.encode()), Ok(code));
            }
        }
    }
}
