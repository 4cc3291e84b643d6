//! Links with delay, loss and a limited rate, for kernels that cannot emulate them.
//!
//! A [`Wire`] joins two network interfaces of one network namespace and forwards frames between them. Each direction
//! has its own [`Conditions`]. The caller connects the interfaces to a host or a bridge. Usually each end is one end of
//! a veth pair, up, and without an address:
//!
//! ```text
//! host a ── veth ── [end ══ wire ══ end] ── veth ── port of a bridge
//! ```
//!
//! A wire carries frames as they would be on a cable, so [offloads must be off](offloads_off) where frames are created.

mod conditions;
mod direction;
mod end;
mod line;
mod units;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, PipeWriter, pipe};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

pub use self::conditions::Conditions;
use self::direction::Direction;
use self::end::End;
use self::line::Line;

/// Two joined interfaces.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// The names of the interfaces.
    pub ends: [String; 2],
    /// Conditions from the first end to the second.
    #[serde(default)]
    pub there: Conditions,
    /// Conditions from the second end to the first.
    #[serde(default)]
    pub back: Conditions,
}

/// Why wires could not be set up, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No wires were given.
    #[error("no wires were asked for")]
    None,
    /// An interface is the end of more than one wire.
    #[error("the interface {0} is the end of more than one wire")]
    Shared(String),
    /// There is no such interface.
    #[error("there is no interface {0}")]
    Missing(String),
    /// A packet socket could not be opened, for lack of root privileges or memory.
    #[error("cannot open a packet socket on {0}: {1}")]
    Open(String, #[source] io::Error),
    /// The interface of an end was removed or set down.
    #[error("the interface {0} is gone or down")]
    Gone(String),
    /// A frame was larger than the outgoing interface allows.
    #[error("a frame of {1} bytes is too large for {0}; are offloads off where it was made?")]
    Oversized(String, usize),
    /// Another error at an end.
    #[error("cannot carry frames at {0}: {1}")]
    Io(String, #[source] io::Error),
    /// A thread or pipe could not be created.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
}

/// Forwards frames until the first error. Random decisions are derived from `seed`, separately for each direction.
pub fn run(wires: &[Wire], seed: u64) -> Result<Infallible, WireError> {
    Laid::new(wires, seed)?.run()
}

/// Wires with open ends. Frames that arrive there from now on are queued until the wires [run](Self::run).
pub struct Laid {
    wires: Vec<Wire>,
    ends: Vec<[End; 2]>,
    tallies: Arc<[[Tally; 2]]>,
    seed: u64,
}

impl Laid {
    /// Opens both ends of each wire.
    pub fn new(wires: &[Wire], seed: u64) -> Result<Self, WireError> {
        let mut known = BTreeSet::new();
        if let Some(name) = wires
            .iter()
            .flat_map(|wire| &wire.ends)
            .find(|name| !known.insert(*name))
        {
            return Err(WireError::Shared(name.clone()));
        }
        let open = |wire: &Wire| Ok([End::open(&wire.ends[0])?, End::open(&wire.ends[1])?]);
        let ends = wires.iter().map(open).collect::<Result<_, WireError>>()?;
        let tallies = wires.iter().map(|_| Default::default()).collect();
        Ok(Self {
            wires: wires.to_vec(),
            ends,
            tallies,
            seed,
        })
    }

    /// Returns the frame counters, updated while the wires run: for each wire, there and back.
    pub fn tallies(&self) -> Arc<[[Tally; 2]]> {
        Arc::clone(&self.tallies)
    }

    /// Forwards frames until the first error, with one thread for each direction.
    pub fn run(self) -> Result<Infallible, WireError> {
        let (reader, writer) = pipe().map_err(WireError::Start)?;
        let outcome = Outcome {
            running: Mutex::new(Some(writer)),
            error: Mutex::new(None),
        };
        thread::scope(|scope| {
            for (name, direction) in self.directions() {
                let (outcome, reader) = (&outcome, &reader);
                let started = thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || outcome.note(direction.carry(reader.as_fd())));
                if let Err(error) = started {
                    outcome.note(Err(WireError::Start(error)));
                    break;
                }
            }
        });
        Err(outcome.into_error())
    }

    fn directions(&self) -> impl Iterator<Item = (String, Direction<'_>)> {
        let wires = self
            .wires
            .iter()
            .zip(&self.ends)
            .zip(self.tallies.iter())
            .zip((0..).step_by(2));
        wires.flat_map(|(((wire, [a, b]), [there, back]), number)| {
            let line = |conditions, number| Line::new(conditions, self.seed, number);
            [
                (
                    format!("{}>{}", a.name(), b.name()),
                    Direction::new(a, b, line(wire.there, number), there),
                ),
                (
                    format!("{}>{}", b.name(), a.name()),
                    Direction::new(b, a, line(wire.back, number + 1), back),
                ),
            ]
        })
    }
}

/// How the wires ended.
struct Outcome {
    /// The threads run until this is closed.
    running: Mutex<Option<PipeWriter>>,
    error: Mutex<Option<WireError>>,
}

impl Outcome {
    /// Records how a direction ended, and stops the others.
    fn note(&self, ended: Result<(), WireError>) {
        if let Err(error) = ended {
            self.error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
        }
        drop(
            self.running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// Returns the first error. Threads end only after an error, so without one there were no threads.
    fn into_error(self) -> WireError {
        self.error
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or(WireError::None)
    }
}

/// Counts of the frames of one direction.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames sent at the far end.
    pub passed: Counter,
    /// Frames lost at random, as the conditions require.
    pub lost: Counter,
    /// Frames dropped because the queue of the rate limit was full, as the conditions require.
    pub full: Counter,
    /// Frames dropped because a buffer here or in the kernel was full. If there are any, the load exceeds what the lab
    /// can carry.
    pub overflowed: Counter,
}

/// A number of frames.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Returns the current count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the command that turns off the offloads of `interface`, so that frames are as on a cable: unmerged, no
/// larger than the MTU, with checksums. Run it for both interfaces of every veth pair of which one is an end, before
/// traffic flows. Either interface may be in any namespace, and keeps its settings when it moves.
///
/// - At the end's peer (an interface of a gateway or host, or a port of a bridge) the kernel would pass up to 64 KiB at
///   once without checksums, whether it created the data or forwards it from interfaces with offloads. That needs `tx`
///   off, and with it `tso` and UDP segmentation, which some kernels turn off by themselves.
/// - The end itself must not merge frames before the wire reads them. That needs `gro` off, the default of a new veth.
///
/// No other interface needs it, such as that of a host on the same bridge.
pub fn offloads_off(interface: &str) -> Vec<String> {
    let off = ["tx", "tso", "gso", "gro"]
        .into_iter()
        .flat_map(|offload| [offload, "off"]);
    ["ethtool", "-K", interface]
        .into_iter()
        .chain(off)
        .map(str::to_owned)
        .collect()
}
