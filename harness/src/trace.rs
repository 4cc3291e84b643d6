//! What happened, folded into one number.

use std::hash::{DefaultHasher, Hash, Hasher};

use handover_core::engine::Event;
use handover_core::time::Time;

/// A hash over everything that went into engines and came out of them. Two runs with the same trace were the same.
#[derive(Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    /// Inputs and outputs so far.
    pub(crate) count: u64,
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
        match event {
            // Its manifest came over the wire and was noted there.
            Event::Offer { taken, free, .. } => self.note(at, host, ("offer", taken, free)),
            event => self.note(at, host, format!("{event:?}")),
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
