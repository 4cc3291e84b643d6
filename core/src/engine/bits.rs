//! A set of small numbers in a few bytes.

/// A set of numbers below a bound that is given when it is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    bound: usize,
}

impl Bits {
    /// An empty set for numbers below `bound`.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            words: vec![0; bound.div_ceil(64)],
            bound,
        }
    }

    /// The bound it was made with.
    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    /// Puts a number in; says whether it was new. A number at or over the bound is never in.
    pub(super) fn insert(&mut self, number: usize) -> bool {
        let new = number < self.bound && !self.contains(number);
        if new && let Some(word) = self.words.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
        new
    }

    /// Takes a number out; says whether it was in.
    pub(super) fn remove(&mut self, number: usize) -> bool {
        let was = self.contains(number);
        if let Some(word) = self.words.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
        was
    }

    /// Whether a number is in.
    pub(super) fn contains(&self, number: usize) -> bool {
        self.words
            .get(number / 64)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_and_nothing_at_the_bound() {
        let mut bits = Bits::new(65);
        assert!(bits.insert(0) && bits.insert(64));
        assert!(!bits.insert(64) && !bits.insert(65) && !bits.insert(1000));
        assert!(bits.contains(0) && bits.contains(64) && !bits.contains(1) && !bits.contains(65));
        assert!(bits.remove(64) && !bits.remove(64) && !bits.remove(1) && !bits.remove(1000));
        assert!(bits.contains(0) && !bits.contains(64));
    }
}
