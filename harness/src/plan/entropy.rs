//! The source of a plan's choices: a seed, or a fuzzer's bytes.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The parts of a plan. Each has its own stream, so that a new draw in one leaves the others unchanged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Topology,
    Workload,
    Users,
    Peers,
    Faults,
    Known,
    StandIns,
}

/// A source of choices.
pub(super) enum Entropy<'a> {
    /// Endless.
    Seed(u64, Box<ChaCha8Rng>),
    /// Returns zeros once the bytes are used up, so that short inputs are small plans.
    Bytes(&'a [u8]),
}

impl<'a> Entropy<'a> {
    pub(super) fn of_seed(seed: u64) -> Self {
        Self::Seed(seed, Box::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    pub(super) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }

    /// Switches to the stream of this part. Bytes have a single stream.
    pub(super) fn turn_to(&mut self, stream: Stream) {
        if let Self::Seed(seed, rng) = self {
            **rng = ChaCha8Rng::seed_from_u64(*seed);
            rng.set_stream(1 + stream as u64);
        }
    }

    /// A number below `most`; 0 if `most` is 0.
    pub(super) fn below(&mut self, most: u32) -> u32 {
        if most <= 1 {
            return 0;
        }
        let drawn = match self {
            Self::Seed(_, rng) => rng.next_u32(),
            Self::Bytes(bytes) => {
                let width = if most <= 256 { 1 } else { 4 };
                let (now, rest) = bytes.split_at(width.min(bytes.len()));
                *bytes = rest;
                now.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
            }
        };
        drawn % most
    }

    /// A number in this range, both ends included.
    pub(super) fn range(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// A number in this range with a uniformly drawn magnitude: small numbers are as likely as large ones.
    pub(super) fn magnitude(&mut self, least: u32, most: u32) -> u32 {
        let (low, high) = (least.max(1).ilog2(), most.max(1).ilog2());
        let bits = self.range(low, high);
        let drawn = (1 << bits) + self.below(1 << bits);
        drawn.clamp(least, most)
    }

    /// True once in `many` draws.
    pub(super) fn one_in(&mut self, many: u32) -> bool {
        // Zeros, as at the end of a fuzzer's bytes, mean no.
        self.below(many) == many - 1
    }

    /// One of these values.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let most = u32::try_from(from.len()).unwrap_or(u32::MAX);
        from[self.below(most) as usize]
    }

    /// An index below `most` into one of a plan's lists.
    pub(super) fn index(&mut self, most: usize) -> u8 {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        u8::try_from(self.below(most.min(256))).unwrap_or(u8::MAX)
    }
}
