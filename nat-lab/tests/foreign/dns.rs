//! A name server with a few names. It is the resolver of the tests' network.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};

use super::room;

/// A DNS record.
#[derive(Debug, Clone)]
pub enum Record {
    A(Ipv4Addr),
    Text(Vec<String>),
}

const A: u16 = 1;
const TXT: u16 = 16;
const HEADER: usize = 12;

/// Answers queries for as long as the test's process runs.
pub fn serve(records: BTreeMap<String, Record>) {
    let socket = UdpSocket::bind((room::RESOLVER, 53)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            // An error is an ICMP error about an earlier answer, or an interrupting signal.
            let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            if let Some(answer) = answer(&buffer[..length], &records) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

/// Returns the answer to a query. An unknown name has no records.
fn answer(question: &[u8], records: &BTreeMap<String, Record>) -> Option<Vec<u8>> {
    let (name, end) = name(question)?;
    let kind = u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?);
    let data: Vec<Vec<u8>> = match (records.get(&name), kind) {
        (Some(Record::A(ip)), A) => vec![ip.octets().to_vec()],
        (Some(Record::Text(texts)), TXT) => texts.iter().map(|text| strings(text)).collect(),
        _ => Vec::new(),
    };
    let mut answer = question[..2].to_vec();
    // Flags: response, authoritative, recursion desired and available. Then the number of questions: 1.
    answer.extend([0x85, 0x80, 0, 1]);
    answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(&question[HEADER..end + 4]);
    for data in data {
        // A pointer to the name in the question, the type, the class IN, and a TTL of 60 seconds.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// Returns the queried name and the offset of its end.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = question.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

/// Splits a text into pieces of at most 255 bytes, each preceded by its length.
fn strings(text: &str) -> Vec<u8> {
    let pieces = text.as_bytes().chunks(255);
    let piece = |piece: &[u8]| [&[u8::try_from(piece.len()).unwrap()], piece].concat();
    pieces.flat_map(piece).collect()
}
