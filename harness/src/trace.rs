//! What happened, folded into one number.

use std::fmt::Write;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;

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

/// With this variable each world that a test has made adds its trace to a file: two engines that did the same things in all
/// tests leave the same lines.
const TRACES: &str = "HANDOVER_TRACES";

impl Drop for Trace {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os(TRACES) else {
            return;
        };
        let thread = std::thread::current();
        let line = format!(
            "{} {:016x} {}\n",
            thread.name().unwrap_or("main"),
            self.hash(),
            self.count
        );
        let file = File::options().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.expect("the file of traces can be written");
    }
}
