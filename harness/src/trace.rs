//! A hash of everything that happened in a run.

use std::fmt::Write;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;

use handover_core::engine::Event;
use handover_core::time::Time;

/// Hash of all inputs and outputs of all engines. Two runs with equal traces were identical.
#[derive(Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    /// Number of inputs and outputs so far.
    pub(crate) count: u64,
    /// Debug text of the last event. Empty for events that are not hashed as text.
    words: String,
}

impl Trace {
    /// Adds one input or output: its time, its host and a description.
    pub(crate) fn note(&mut self, at: Time, host: u32, what: impl Hash) {
        self.count += 1;
        (at.as_nanos(), host).hash(&mut self.hasher);
        what.hash(&mut self.hasher);
    }

    /// Adds a frame. A sealed frame ends with a tag over its whole content, so hashing both ends is enough.
    pub(crate) fn frame(&mut self, at: Time, host: u32, bytes: &[u8]) {
        let head = bytes.first_chunk::<32>();
        let tail = bytes.last_chunk::<16>();
        self.note(at, host, (bytes.len(), head, tail));
    }

    pub(crate) fn event(&mut self, at: Time, host: u32, event: &Event) {
        self.words.clear();
        match event {
            // The manifest arrived over the wire, and was hashed then.
            Event::Offer { taken, free, .. } => self.note(at, host, ("offer", taken, free)),
            event => {
                let _ = write!(self.words, "{event:?}");
                self.count += 1;
                (at.as_nanos(), host).hash(&mut self.hasher);
                self.words.hash(&mut self.hasher);
            }
        }
    }

    /// Debug text of the last event, or `None` if it has none.
    pub(crate) fn last_words(&self) -> Option<&str> {
        Some(self.words.as_str()).filter(|words| !words.is_empty())
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

/// Environment variable: if it is set to a path, every world created by a test appends its trace to that file. Two
/// engines that behave identically in all tests produce the same lines.
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
