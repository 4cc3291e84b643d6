//! A bit set.

/// A set of numbers below a fixed bound, one bit each.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    bound: usize,
}

impl Bits {
    /// Creates an empty set for numbers below `bound`.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            words: vec![0; bound.div_ceil(64)],
            bound,
        }
    }

    /// The bound given at creation.
    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    /// Inserts a number. Returns true if it was new. Numbers at or above the bound are ignored.
    pub(super) fn insert(&mut self, number: usize) -> bool {
        let new = number < self.bound && !self.contains(number);
        if new && let Some(word) = self.words.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
        new
    }

    /// Inserts all numbers of a range that are below the bound.
    pub(super) fn insert_all(&mut self, range: std::ops::Range<usize>) {
        let mut at = range.start;
        let end = range.end.min(self.bound);
        while at < end {
            let first = at % 64;
            let many = (64 - first).min(end - at);
            if let Some(word) = self.words.get_mut(at / 64) {
                *word |= (u64::MAX >> (64 - many)) << first;
            }
            at += many;
        }
    }

    /// Returns the first number from `from` on that is in both sets.
    pub(super) fn next_in_both(&self, other: &Self, from: usize) -> Option<usize> {
        let skipped = from / 64;
        let words = self.words.iter().zip(&other.words).enumerate();
        words.skip(skipped).find_map(|(at, (a, b))| {
            let seen = if at == skipped { from % 64 } else { 0 };
            let both = a & b & (u64::MAX << seen);
            (both != 0).then(|| at * 64 + both.trailing_zeros() as usize)
        })
    }

    /// Returns the first number from `from` on that is in the set.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        self.next_in_both(self, from)
    }

    /// Removes a number. Returns true if it was in the set.
    pub(super) fn remove(&mut self, number: usize) -> bool {
        let was = self.contains(number);
        if let Some(word) = self.words.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
        was
    }

    /// True if the number is in the set.
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

    #[test]
    fn ranges_go_in_and_what_two_sets_share_is_found() {
        let (mut all, mut some) = (Bits::new(200), Bits::new(200));
        all.insert_all(3..500);
        assert!(!all.contains(2) && all.contains(3) && all.contains(199) && !all.contains(200));
        some.insert_all(60..70);
        some.remove(64);
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(next) = all.next_in_both(&some, at) {
            found.push(next);
            at = next + 1;
        }
        assert_eq!(found, [60, 61, 62, 63, 65, 66, 67, 68, 69]);
        assert_eq!(some.next(70), None);
        assert_eq!(all.next(199), Some(199));
        assert_eq!(all.next(1000), None);
    }
}
