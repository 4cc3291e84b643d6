//! What happened, folded into one number.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use handover_core::engine::Event;
use handover_core::time::Time;

/// A hash over everything that went into engines and came out of them. Two runs with the same trace were the same.
#[derive(Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    /// Inputs and outputs so far.
    pub(crate) count: u64,
    /// The last event, in words; empty where it was none.
    words: String,
}

impl Trace {
    /// One thing: when, at which host, what.
    pub(crate) fn note(&mut self, at: Time, host: u32, what: impl Hash) {
        self.count += 1;
        (at.as_nanos(), host).hash(&mut self.hasher);
        what.hash(&mut self.hasher);
    }

    /// A frame. A sealed frame's end is a tag over all of it, so its ends stand for the whole.
    pub(crate) fn frame(&mut self, at: Time, host: u32, bytes: &[u8]) {
        let head = bytes.first_chunk::<32>();
        let tail = bytes.last_chunk::<16>();
        self.note(at, host, (bytes.len(), head, tail));
    }

    pub(crate) fn event(&mut self, at: Time, host: u32, event: &Event) {
        self.words.clear();
        match event {
            // Its manifest came over the wire and was noted there.
            Event::Offer { taken, free, .. } => self.note(at, host, ("offer", taken, free)),
            event => {
                let _ = write!(self.words, "{event:?}");
                self.count += 1;
                (at.as_nanos(), host).hash(&mut self.hasher);
                self.words.hash(&mut self.hasher);
            }
        }
    }

    /// The last event in words, if it has some that anybody might read.
    pub(crate) fn last_words(&self) -> Option<&str> {
        Some(self.words.as_str()).filter(|words| !words.is_empty())
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
