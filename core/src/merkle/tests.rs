//! Tests of the tree against its definition, and of proofs against all kinds of errors in them.

#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers here are small, or cut on purpose"
)]

use proptest::prelude::*;

use super::*;
use crate::limits::LEAVES_PER_GROUP;

const LEAF_BYTES: usize = LEAF as usize;
const GROUP_BYTES: usize = GROUP as usize;

/// Bytes that differ from leaf to leaf and from file to file.
fn content(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| seed ^ (at as u8) ^ (at / LEAF_BYTES) as u8 ^ (at >> 20) as u8)
        .collect()
}

/// The definition, implemented literally and independently of the code under test.
mod naive {
    use super::{Digest, Hash, LEAF_BYTES, Sha256};

    fn tagged(tag: &str, data: &[u8]) -> Vec<u8> {
        let tag = Sha256::digest(tag).to_vec();
        Sha256::digest([&tag, &tag, data].concat()).to_vec()
    }

    fn top(leaves: &[&[u8]]) -> Vec<u8> {
        if let [leaf] = leaves {
            return tagged("handover/leaf/1", leaf);
        }
        let mut half = 1;
        while half * 2 < leaves.len() {
            half *= 2;
        }
        let (left, right) = leaves.split_at(half);
        tagged("handover/node/1", &[top(left), top(right)].concat())
    }

    pub(super) fn root(bytes: &[u8]) -> Hash {
        let mut leaves: Vec<&[u8]> = bytes.chunks(LEAF_BYTES).collect();
        if leaves.is_empty() {
            leaves.push(&[]);
        }
        let length = (bytes.len() as u64).to_le_bytes().to_vec();
        let root = tagged("handover/root/1", &[length, top(&leaves)].concat());
        Hash(root.try_into().unwrap())
    }
}

fn groups(bytes: &[u8]) -> Vec<Hash> {
    if bytes.is_empty() {
        return vec![hash_group(bytes)];
    }
    bytes.chunks(GROUP_BYTES).map(hash_group).collect()
}

fn tree(size: u64, groups: &[Hash]) -> GroupTree {
    let mut tree = GroupTree::new(size);
    for (group, hash) in (0..).zip(groups) {
        assert!(tree.insert(group, *hash));
    }
    tree
}

/// Returns a hash for each group of a file that is too large to hold in memory.
fn made_up(count: u64) -> Vec<Hash> {
    (0..count)
        .map(|group| hash_leaf(&group.to_be_bytes()))
        .collect()
}

/// Sizes on both sides of every boundary of the tree.
fn sizes() -> impl Strategy<Value = usize> {
    let near = prop_oneof![
        Just(0),
        Just(LEAF_BYTES),
        Just(GROUP_BYTES),
        (1..40_usize).prop_map(|n| n * LEAF_BYTES),
        (1..9_usize).prop_map(|n| n * GROUP_BYTES)
    ];
    prop_oneof![
        (near, -2..=2_isize).prop_map(|(size, by)| size.saturating_add_signed(by)),
        0..9 * GROUP_BYTES
    ]
}

/// Generates a range of leaves in one group of a file of some size: size, offset, end.
fn ranges() -> impl Strategy<Value = (usize, usize, usize)> {
    sizes().prop_flat_map(|size| {
        let leaves = size.div_ceil(LEAF_BYTES).max(1);
        (Just(size), 0..leaves, 1..=LEAVES_PER_GROUP as usize).prop_map(
            move |(size, first, count)| {
                let of_group = (first / 16 + 1) * 16;
                let end = (first + count).min(of_group).min(leaves);
                (size, first * LEAF_BYTES, (end * LEAF_BYTES).min(size))
            },
        )
    })
}

/// Makes everything that a peer sends to prove a range, as a sharer does.
fn prove(bytes: &[u8], offset: usize, end: usize) -> (Hash, RangeHash, Vec<Hash>) {
    let tree = tree(bytes.len() as u64, &groups(bytes));
    let group = offset / GROUP_BYTES;
    let start = group * GROUP_BYTES;
    let of_group = &bytes[start..bytes.len().min(start + GROUP_BYTES)];
    let mut proof = group_proof(of_group, (offset - start) as u32, (end - offset) as u32);
    proof.extend(tree.proof(group as u64).unwrap());
    (
        tree.root().unwrap(),
        RangeHash::of(&bytes[offset..end]),
        proof,
    )
}

#[test]
fn vectors() {
    let lines: Vec<String> = [
        0,
        1,
        LEAF_BYTES,
        LEAF_BYTES + 1,
        GROUP_BYTES,
        GROUP_BYTES + 1,
        5 * GROUP_BYTES + 7,
    ]
    .into_iter()
    .map(|len| {
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        format!("{len:>7} {}", file_root(&bytes))
    })
    .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
          0 b4b6ca3dad44b8727df9feef1f4437b2fac38f5aed595d7bb19dcfabc628c48c
          1 3fcf04f6960c77f032ab3d6eb4e4933251dbb6af53f9ded5217e60b0dc1ac9c7
      16384 eb8d627a5019667304fbbbe1e9fcc12e56b08e2990b97f4ab22ccec3c5e73e42
      16385 36e961bba3d403b084a557bfecad14770d064c4af6813d3bf935cebf2e58a7ce
     262144 6bbfbd81e50b4d40eb2966c23aa65cdadb28106ec005edb8c1d5b1f81935f1f2
     262145 99a1b7d741ee542f9a0f14606618486c4f1c00cf4720c8bfe10281ea9f37d658
    1310727 3d900a16712ed01bd372cc4f034f1ecc01b7bf175d286b63077d438671230361
    ");
    insta::assert_snapshot!(hash_leaf(b""), @"9e2dd7bb626aee889b633ab79a8b5af073bc520fdc303ba529ab9afe166ece0f");
    insta::assert_snapshot!(hash_leaf(b"handover"), @"015890e102ed8911bd102f6a8cab6c983c032a8dc5d1b5314ddf93eb00cb5a50");
    insta::assert_snapshot!(hash_node(&Hash([1; 32]), &Hash([2; 32])), @"ced7e8fcf7b617b896118b53489fc1f915300bd5da45d817659372f41906b28a");
}

#[test]
fn a_hash_is_a_byte_string_in_cbor() {
    let mut bytes = Vec::new();
    ciborium::into_writer(&Hash([7; 32]), &mut bytes).unwrap();
    assert_eq!(bytes, [&[0x58, 32][..], &[7; 32]].concat());
    let hash: Hash = ciborium::from_reader(bytes.as_slice()).unwrap();
    assert_eq!(hash, Hash([7; 32]));
    let short = [&[0x58, 31][..], &[7; 31]].concat();
    assert!(ciborium::from_reader::<Hash, _>(short.as_slice()).is_err());
}

#[test]
fn a_leaf_is_never_taken_for_a_node_nor_a_node_for_a_root() {
    let (left, right) = (hash_leaf(b"left"), hash_leaf(b"right"));
    let children = [left.0, right.0].concat();
    assert_ne!(hash_leaf(&children), hash_node(&left, &right));
    let file = content(2 * LEAF_BYTES, 1);
    assert_ne!(file_root(&children), file_root(&file));
    let top = hash_group(&file);
    assert_ne!(file_root(&file), top);
}

#[test]
fn a_root_binds_the_length() {
    let zeros = vec![0; 2 * LEAF_BYTES];
    let roots: std::collections::BTreeSet<Hash> = [
        0,
        1,
        LEAF_BYTES - 1,
        LEAF_BYTES,
        LEAF_BYTES + 1,
        2 * LEAF_BYTES,
    ]
    .into_iter()
    .map(|len| file_root(&zeros[..len]))
    .collect();
    assert_eq!(roots.len(), 6);
    let group = hash_group(b"abc");
    assert_ne!(hash_root(3, &group), hash_root(4, &group));
}

#[test]
fn a_proof_for_another_size_is_refused() {
    let bytes = content(3 * GROUP_BYTES, 0);
    let (root, range, proof) = prove(&bytes, 0, GROUP_BYTES);
    let size = bytes.len() as u64;
    assert!(verify_range(&root, size, 0, &range, &proof).is_some());
    for other in [0, 1, size - 1, size + 1, size + u64::from(GROUP), u64::MAX] {
        assert_eq!(verify_range(&root, other, 0, &range, &proof), None);
    }
}

#[test]
fn a_proof_for_another_place_is_refused() {
    // All leaves are equal, so that only their places differ.
    let bytes = vec![0; 3 * GROUP_BYTES];
    let size = bytes.len() as u64;
    let (root, range, proof) = prove(&bytes, 0, LEAF_BYTES);
    assert!(verify_range(&root, size, 0, &range, &proof).is_some());
    let leaf = u64::from(LEAF);
    for offset in [
        1,
        leaf - 1,
        leaf,
        size - leaf,
        size,
        size + leaf,
        u64::MAX - leaf + 1,
        u64::MAX,
    ] {
        let moved = verify_range(&root, size, offset, &range, &proof);
        assert_eq!(moved.is_some(), offset == leaf, "at {offset}");
    }
}

#[test]
fn the_longest_proof_fits_its_bound() {
    // The widest tree whose size fits a u64, a group at the deepest place, and two leaves in its middle.
    let inner = group_proof(&content(GROUP_BYTES, 0), 7 * LEAF, 2 * LEAF).len();
    let outer = proof::levels(group_count(u64::MAX)).len();
    assert_eq!(inner + outer, crate::message::MAX_PROOF);
}

#[test]
fn ends_of_the_number_line_do_not_panic() {
    let range = RangeHash::of(&[0; 5]);
    let proof = vec![Hash([0; 32]); crate::message::MAX_PROOF];
    for size in [0, 1, u64::MAX - 1, u64::MAX] {
        for offset in [0, u64::from(LEAF), u64::MAX - u64::from(LEAF) + 1, u64::MAX] {
            assert_eq!(
                verify_range(&Hash([0; 32]), size, offset, &range, &proof),
                None
            );
        }
        let (mut partial, mut whole) = (PartialTree::new(size), GroupTree::new(size));
        let count = group_count(size);
        for group in [count - 1, count, u64::MAX] {
            assert_eq!(partial.insert(group, Hash([0; 32])), group < count);
            assert_eq!(whole.insert(group, Hash([0; 32])), group < count);
            assert_eq!(partial.next_missing(group), None);
        }
        assert_eq!(
            (partial.complete(), whole.is_complete()),
            (count == 1, count == 1)
        );
        assert_eq!(whole.missing(), partial.next_missing(0));
    }
}

#[test]
fn wide_trees_agree_with_each_other_and_prove_every_group() {
    for count in [2, 15, 16, 17, 31, 33, 255, 256, 257, 300, 4095, 4096, 4097] {
        let hashes = made_up(count);
        let size = count * u64::from(GROUP) - 1;
        let whole = tree(size, &hashes);
        let root = whole.root().unwrap();
        assert_eq!(root, hash_root(size, &fold(&hashes)), "{count} groups");
        for group in (0..count).step_by(1 + count as usize / 97) {
            let proof = whole.proof(group).unwrap();
            let mut proof = proof.iter();
            let node = hashes[group as usize];
            let top = proof::climb(node, group, count, &mut proof).unwrap();
            assert!(proof.next().is_none());
            assert_eq!(hash_root(size, &top), root, "group {group} of {count}");
        }
    }
}

#[test]
fn a_partial_tree_stays_small_while_groups_come_in_order() {
    let count = 5000;
    let mut tree = PartialTree::new(count * u64::from(GROUP));
    for (group, hash) in (0..).zip(made_up(count)) {
        tree.insert(group, hash);
        assert!(tree.kept() <= 13, "{} nodes are kept", tree.kept());
    }
    assert_eq!(tree.kept(), 1);
}

#[test]
fn a_small_file_costs_little() {
    assert!(size_of::<GroupTree>() <= 48);
    assert!(size_of::<PartialTree>() <= 48);
}

#[test]
#[should_panic(expected = "bytes at")]
fn a_sharer_does_not_prove_what_is_not_in_the_group() {
    group_proof(&[0; 100], LEAF, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_root_is_that_of_the_definition(size in sizes(), seed: u8) {
        let bytes = content(size, seed);
        let root = naive::root(&bytes);
        prop_assert_eq!(file_root(&bytes), root);
        prop_assert_eq!(tree(size as u64, &groups(&bytes)).root(), Some(root));
    }

    #[test]
    fn a_proof_of_any_range_holds_and_no_other_bytes_pass((size, offset, end) in ranges(), at: prop::sample::Index, bit in 0..8) {
        let bytes = content(size, 3);
        let (root, range, proof) = prove(&bytes, offset, end);
        let group = &groups(&bytes)[offset / GROUP_BYTES];
        let (size, offset64) = (size as u64, offset as u64);
        prop_assert_eq!(verify_range(&root, size, offset64, &range, &proof), Some(*group));
        prop_assert!(proof.len() <= crate::message::MAX_PROOF);
        if end > offset {
            let mut wrong = bytes[offset..end].to_vec();
            *at.get_mut(&mut wrong) ^= 1_u8 << bit;
            prop_assert_eq!(verify_range(&root, size, offset64, &RangeHash::of(&wrong), &proof), None);
            wrong.pop();
            prop_assert_eq!(verify_range(&root, size, offset64, &RangeHash::of(&wrong), &proof), None);
        }
    }

    #[test]
    fn no_other_proof_passes((size, offset, end) in ranges(), at: prop::sample::Index, byte in 0..32_usize, bit in 0..8) {
        let bytes = content(size, 4);
        let (root, range, proof) = prove(&bytes, offset, end);
        let check = |proof: &[Hash]| verify_range(&root, size as u64, offset as u64, &range, proof);
        prop_assert!(check(&proof).is_some());
        for extra in [Hash([0; 32]), root] {
            prop_assert_eq!(check(&[&proof[..], &[extra]].concat()), None);
            prop_assert_eq!(check(&[&[extra], &proof[..]].concat()), None);
        }
        if !proof.is_empty() {
            prop_assert_eq!(check(&proof[1..]), None);
            prop_assert_eq!(check(&proof[..proof.len() - 1]), None);
            let mut wrong = proof.clone();
            at.get_mut(&mut wrong).0[byte] ^= 1_u8 << bit;
            prop_assert_eq!(check(&wrong), None);
        }
        let mut other = root;
        other.0[byte] ^= 1_u8 << bit;
        prop_assert_eq!(verify_range(&other, size as u64, offset as u64, &range, &proof), None);
    }

    #[test]
    fn groups_may_come_in_any_order(order in (1..600_u64).prop_flat_map(|count| Just((0..count).collect::<Vec<_>>()).prop_shuffle())) {
        let count = order.len() as u64;
        let hashes = made_up(count);
        let size = count * u64::from(GROUP);
        let (mut partial, mut whole) = (PartialTree::new(size), GroupTree::new(size));
        let mut have = vec![false; order.len()];
        for &group in &order {
            prop_assert!(!partial.complete() && !whole.is_complete());
            prop_assert_eq!((partial.root(), whole.root(), whole.proof(0)), (None, None, None));
            prop_assert!(partial.insert(group, hashes[group as usize]));
            prop_assert!(whole.insert(group, hashes[group as usize]));
            prop_assert!(!partial.insert(group, Hash([0; 32])) && !whole.insert(group, Hash([0; 32])));
            have[group as usize] = true;
            for group in 0..count {
                prop_assert_eq!(partial.have(group), have[group as usize]);
                prop_assert_eq!(whole.has(group), have[group as usize]);
            }
            let missing = have.iter().position(|have| !have).map(|group| group as u64);
            prop_assert_eq!((partial.next_missing(0), whole.missing()), (missing, missing));
        }
        let root = Some(hash_root(size, &fold(&hashes)));
        prop_assert_eq!((partial.root(), whole.root()), (root, root));
    }
}
