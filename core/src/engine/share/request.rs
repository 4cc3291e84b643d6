//! Planning the answer to a request: what has to be read for it, and what proves it.

use super::super::serving::proof_of;
use super::super::{DiskWork, GroupHash, Segment};
use super::content::{Content, EntryState};
use crate::limits::GROUP;
use crate::merkle::group_len;
use crate::message::{Failure, Served};

/// Bytes of a pipe that are kept after they were read, 64 groups: what a receiver may have requested and lost with a
/// link.
const PIPE_KEPT: u64 = 64 * GROUP as u64;

/// How to handle a request.
pub(super) enum Plan {
    /// Answer at once.
    Answer(Vec<Served>),
    /// Read first.
    Read(DiskWork),
}

pub(super) fn plan_read(
    content: &mut Content,
    share: super::ShareId,
    segments: &[Segment],
    peer: Option<crate::PeerId>,
) -> Plan {
    if segments.iter().any(|segment| segment.len == 0) {
        return Plan::Answer(vec![Served::Forgotten; segments.len()]);
    }
    if let Some(first) = segments.first()
        && let Some(EntryState::Stream(stream)) = content.entry_mut(first.entry)
    {
        return plan_pipe(stream, share, *first, peer);
    }
    let readable: Vec<_> = segments
        .iter()
        .filter(|segment| is_servable(content, segment))
        .copied()
        .collect();
    if readable.is_empty() {
        let failed = segments
            .iter()
            .map(|segment| match content.entry(segment.entry) {
                Some(EntryState::Failed { failure, .. }) => Served::Failed(*failure),
                _ => Served::Failed(Failure::Unreadable),
            });
        return Plan::Answer(failed.collect());
    }
    let hash = readable.iter().any(|segment| wants_hash(content, segment));
    Plan::Read(DiskWork::Read {
        share,
        segments: readable,
        hash,
    })
}

/// True if a request may be handled now. A pipe has one reader at a time. A request ahead of the pipe's position waits
/// for the bytes in between, which the same receiver has requested over another link or will request again.
pub(super) fn may_read(
    content: &Content,
    segments: &[Segment],
    peer: Option<crate::PeerId>,
) -> bool {
    let Some(first) = segments.first() else {
        return true;
    };
    let Some(EntryState::Stream(stream)) = content.entry(first.entry) else {
        return true;
    };
    let near = stream.read.saturating_add(1)..=stream.read.saturating_add(PIPE_KEPT);
    // The faster of two links may deliver its requests before the start of the stream was requested.
    let may_have = stream.taken_by.is_none() || stream.taken_by == peer;
    let whole = first.offset.is_multiple_of(u64::from(GROUP));
    let ahead = stream.size.is_none() && may_have && whole && near.contains(&first.offset);
    first.len == 0 || !(stream.reading || ahead)
}

pub(super) fn plan_pipe(
    stream: &mut super::content::StreamState,
    share: super::ShareId,
    segment: Segment,
    peer: Option<crate::PeerId>,
) -> Plan {
    let passed = segment.offset.saturating_add(PIPE_KEPT) < stream.read
        || segment.offset > stream.read
        || !segment.offset.is_multiple_of(u64::from(GROUP));
    let taken = stream.taken_by.is_some() && stream.taken_by != peer;
    if let Some(size) = stream.size
        && segment.offset > size
    {
        return Plan::Answer(vec![Served::End { len: 0, size }]);
    }
    if taken || passed {
        return match stream.size {
            Some(size) if !taken && segment.offset >= size => {
                Plan::Answer(vec![Served::End { len: 0, size }])
            }
            _ => Plan::Answer(vec![Served::Failed(Failure::Passed)]),
        };
    }
    stream.taken_by = peer;
    stream.reading = true;
    Plan::Read(DiskWork::ReadPipe {
        share,
        offset: segment.offset,
        len: segment.len,
        keep_from: stream.read.saturating_sub(PIPE_KEPT),
    })
}

pub(super) fn is_servable(content: &Content, segment: &Segment) -> bool {
    matches!(content.entry(segment.entry), Some(EntryState::File { .. }))
}

/// True if reading this segment should hash its group: the group is not hashed yet, or the proof starts inside it.
pub(super) fn wants_hash(content: &Content, segment: &Segment) -> bool {
    let Some(EntryState::File { size, tree }) = content.entry(segment.entry) else {
        return false;
    };
    let group = segment.offset / u64::from(GROUP);
    !tree.has(group) || segment.len != group_len(*size, group)
}

/// Adds the hash of a read segment to its tree, and returns how the segment is served.
pub(super) fn served_bytes(
    content: &mut Content,
    segment: &Segment,
    hash: Option<GroupHash>,
) -> Served {
    let group = segment.offset / u64::from(GROUP);
    let mut inner = Vec::new();
    if let Some(read) = hash {
        content.insert(segment.entry, group, read.hash);
        inner = read.inner;
    }
    let proof = match content.entry(segment.entry) {
        Some(EntryState::File { size, tree }) => proof_of(tree.proof(group), inner, *size, segment),
        _ => None,
    };
    Served::Bytes {
        len: segment.len,
        proof,
    }
}
