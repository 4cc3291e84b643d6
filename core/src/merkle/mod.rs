//! The Merkle tree over a file's bytes: names a file by its content and lets each piece be verified on its own.
//!
//! A file is cut into leaves of [`LEAF`] bytes; the last one may be shorter, and an empty file has one empty leaf. The
//! tree over the leaves has the shape of RFC 6962, section 2.1: the number of leaves in the left subtree is the largest
//! power of two below the total. All hashes are SHA-256, tagged as in BIP 340, so that no leaf can be taken for a node,
//! nor a node for a root:
//!
//! ```text
//! tagged(tag, data) = SHA256(SHA256(tag) || SHA256(tag) || data)
//! leaf              = tagged("handover/leaf/1", its bytes)
//! node              = tagged("handover/node/1", left || right)
//! root              = tagged("handover/root/1", length of the file as u64, little-endian || top node)
//! ```
//!
//! Sixteen leaves make a *group* ([`GROUP`] bytes). As sixteen is a power of two, a group is a subtree. Peers mostly
//! store, request and prove whole groups; single leaves are proved inside their group.
//!
//! A *proof* of a range of leaves of one group is a list of hashes: first those inside the group ([`group_proof`]),
//! then the siblings on the path from the group's node to the top, lowest first ([`GroupTree::proof`]).
//! [`verify_range`] takes the concatenation of both.
//!
//! This module deals only with bytes and hashes. Reading the bytes and blaming peers for wrong ones happens elsewhere.

mod partial;
mod proof;
mod proof_tree;
mod stream;
mod tree;

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use partial::PartialTree;
pub use proof::{RangeHash, group_proof, verify_range};
pub use proof_tree::ProofTree;
pub use stream::{StreamTree, group_node};
pub use tree::GroupTree;

use crate::limits::{GROUP, LEAF};

/// A SHA-256 hash. In CBOR it is a byte string; `Display` and `Debug` write hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the number of groups in a file of `size` bytes: at least one, because an empty file has one empty leaf.
pub fn group_count(size: u64) -> u64 {
    size.div_ceil(u64::from(GROUP)).max(1)
}

/// Returns the length in bytes of one group of a file of `size` bytes; 0 for a group beyond its end.
pub fn group_len(size: u64, group: u64) -> u32 {
    let start = group.saturating_mul(u64::from(GROUP));
    u32::try_from(size.saturating_sub(start)).map_or(GROUP, |rest| rest.min(GROUP))
}

/// Returns the number of leaves in one group of a file of `size` bytes: at least one, as in [`group_count`].
pub(crate) fn leaves_in_group(size: u64, group: u64) -> usize {
    group_len(size, group).div_ceil(LEAF).max(1) as usize
}

/// Hashes one leaf.
///
/// # Panics
/// If it is longer than [`LEAF`] bytes.
pub fn hash_leaf(bytes: &[u8]) -> Hash {
    assert!(
        bytes.len() <= LEAF as usize,
        "{} bytes in a leaf",
        bytes.len()
    );
    tagged(&LEAF_TAG, &[bytes])
}

/// Returns the node over one group's leaves. `bytes` is at most [`GROUP`] long, and shorter only at the end of a file.
pub fn hash_group(bytes: &[u8]) -> Hash {
    RangeHash::of(bytes).node()
}

/// Returns the root of a file whose bytes are all in memory.
pub fn file_root(bytes: &[u8]) -> Hash {
    let groups: Vec<Hash> = match bytes {
        [] => vec![hash_group(bytes)],
        _ => bytes.chunks(GROUP as usize).map(hash_group).collect(),
    };
    hash_root(bytes.len() as u64, &fold(&groups))
}

/// SHA-256 states after a tag's 64 bytes, which are exactly one block, so that tagging costs nothing per hash.
static LEAF_TAG: LazyLock<Sha256> = LazyLock::new(|| tag(b"handover/leaf/1"));
static NODE_TAG: LazyLock<Sha256> = LazyLock::new(|| tag(b"handover/node/1"));
static ROOT_TAG: LazyLock<Sha256> = LazyLock::new(|| tag(b"handover/root/1"));

fn tag(name: &[u8]) -> Sha256 {
    let name = Sha256::digest(name);
    Sha256::new().chain_update(name).chain_update(name)
}

fn tagged(tag: &Sha256, parts: &[&[u8]]) -> Hash {
    let mut sha = tag.clone();
    for part in parts {
        sha.update(part);
    }
    Hash(sha.finalize().into())
}

fn hash_node(left: &Hash, right: &Hash) -> Hash {
    tagged(&NODE_TAG, &[&left.0, &right.0])
}

pub(crate) fn hash_root(size: u64, top: &Hash) -> Hash {
    tagged(&ROOT_TAG, &[&size.to_le_bytes(), &top.0])
}

/// Returns the node over adjacent nodes of one level, in the shape of RFC 6962. `hashes` is not empty.
fn fold(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => unreachable!("a subtree has a leaf"),
        [hash] => *hash,
        _ => {
            let (left, right) = hashes.split_at(split(hashes.len()));
            hash_node(&fold(left), &fold(right))
        }
    }
}

/// Returns how many of `count` leaves (at least two) are in the left subtree: the largest power of two below `count`.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
mod tests;
