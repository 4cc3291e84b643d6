//! Answers to requests: checking that they are valid, and sorting their content.

use bytes::Bytes;

use super::super::{Piece, Segment, Violation};
use super::files::{Files, Taken};
use super::transfer::Transfer;
use crate::manifest::SignedRoots;
use crate::merkle::RangeHash;
use crate::message::{Failure, Served};

/// A [`Message::Data`](crate::message::Message::Data) with its payload and the payload's hashes.
pub(super) struct Data {
    pub(super) id: u64,
    pub(super) served: Vec<Served>,
    pub(super) roots: Option<SignedRoots>,
    pub(super) payload: Bytes,
    pub(super) hashes: Vec<RangeHash>,
}

/// Content of an answer.
#[derive(Default)]
pub(super) struct Sorted {
    /// Pieces to write to disk.
    pub(super) pieces: Vec<Piece>,
    /// Entries that cannot be fetched.
    pub(super) failed: Vec<(u32, Failure)>,
    /// Number of pieces that failed their check.
    pub(super) bad: u32,
    /// Bytes that were present already and that the source has shown to have too.
    pub(super) shown: Shown,
    /// Segments that a seeder does not have.
    pub(super) missing: Vec<Segment>,
}

/// Bytes that came although they were present already (`bytes`), and those that need not come because of that
/// (`spared`).
#[derive(Default)]
pub(super) struct Shown {
    pub(super) bytes: u64,
    pub(super) spared: u64,
}

/// Checks that an answer matches its request and that its roots are valid. `proved`: only bytes with a proof are
/// accepted, as the answer does not come from the sharer.
pub(super) fn check(
    transfer: &mut Transfer,
    segments: &[Segment],
    data: &Data,
    proved: bool,
) -> Result<(), Violation> {
    if let Some(roots) = &data.roots {
        let learnt = transfer.verified(roots)?;
        transfer.learn(roots, learnt)?;
    }
    let mut left = data.payload.len();
    let mut hashes = data.hashes.iter();
    for (segment, served) in segments.iter().zip(&data.served) {
        let len = match served {
            Served::Bytes { proof: None, .. } if proved => {
                return Err(Violation::new(
                    "bytes without a proof from who is not the sharer",
                ));
            }
            Served::End { .. } | Served::Failed(_) if proved => {
                return Err(Violation::new("only the sharer can say that"));
            }
            Served::Missing if proved => continue,
            Served::Failed(_) => continue,
            // Nothing can be forgotten, as this side never cancels requests. And the sharer has everything.
            Served::Missing | Served::Forgotten => {
                return Err(Violation::new("forgot a request by itself"));
            }
            Served::Bytes { len, .. } | Served::End { len, .. } => *len,
        };
        if hashes.next().is_none() || len as usize > left {
            return Err(Violation::new("an answer shorter than it says"));
        }
        left -= len as usize;
        let whole = len == segment.len || matches!(served, Served::End { .. });
        if !whole || len > segment.len {
            return Err(Violation::new("an answer to another question"));
        }
        if proved && transfer.files.is_unproved(segment.entry) {
            return Err(Violation::new("bytes of a file before its root"));
        }
    }
    Ok(())
}

/// Sorts the content of an answer that was [checked](check).
pub(super) fn sort(
    files: &mut Files,
    segments: &[Segment],
    data: Data,
) -> Result<Sorted, Violation> {
    let mut payload = data.payload;
    let mut hashes = data.hashes.iter();
    let mut sorted = Sorted::default();
    for (segment, served) in segments.iter().zip(data.served) {
        let (len, proof, end) = match served {
            Served::Bytes { len, proof } => (len, proof, None),
            Served::End { len, size } => (len, None, Some(size)),
            Served::Failed(reason) => {
                sorted.failed.push((segment.entry, reason));
                continue;
            }
            Served::Missing | Served::Forgotten => {
                files.lost([*segment]);
                sorted.missing.push(*segment);
                continue;
            }
        };
        let Some(range) = hashes.next() else {
            break;
        };
        let bytes = payload.split_to(payload.len().min(len as usize));
        if let Some(size) = end {
            let behind = segment.offset.saturating_add(u64::from(len));
            if size > behind || (len > 0 && size != behind) {
                return Err(Violation::new("a stream that does not end where it says"));
            }
            files.ends(segment.entry, size)?;
        }
        if len == 0 {
            continue;
        }
        match files.arrived(segment, len, range, proof.as_deref()) {
            Taken::Write => sorted.pieces.push(Piece {
                entry: segment.entry,
                offset: segment.offset,
                data: bytes,
            }),
            Taken::Drop => {}
            Taken::Shown { spared } => {
                sorted.shown.bytes += u64::from(len);
                sorted.shown.spared += spared;
            }
            Taken::Bad => {
                sorted.bad += 1;
                files.lost([*segment]);
            }
        }
    }
    Ok(sorted)
}
