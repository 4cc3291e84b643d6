//! Lists that are decoded without trusting their declared length.
//!
//! serde preallocates for the number of elements that a message claims, up to 1 MiB. [`Bounded`] preallocates nothing:
//! it grows as elements arrive, and fails at the first element over its bound.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// A list of at most `MAX` elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Bounded<T, MAX> {
    /// Returns the elements as a vector.
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for Bounded<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// For lists of our own, which are within the bound by construction. A longer one would be refused by every peer.
impl<T, const MAX: usize> From<Vec<T>> for Bounded<T, MAX> {
    fn from(elements: Vec<T>) -> Self {
        assert!(
            elements.len() <= MAX,
            "a list of {} elements goes where {MAX} fit",
            elements.len()
        );
        Self(elements)
    }
}

impl<T: Serialize, const MAX: usize> Serialize for Bounded<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < MAX {
            let Some(element) = seq.next_element()? else {
                return Ok(Bounded(elements));
            };
            elements.push(element);
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Bounded(elements)),
            Some(IgnoredAny) => Err(A::Error::custom(format_args!("more than {MAX} elements"))),
        }
    }
}
