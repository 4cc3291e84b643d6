//! Links that are slow, lossy or long, for kernels that cannot make them so themselves.
//!
//! A [`Wire`] joins two network interfaces of one network namespace, frame by frame, and each direction has its
//! [`Conditions`]. What joins an interface to a host or a bridge is up to the caller; usually each end is one end of a
//! veth pair, up, and without an address of its own:
//!
//! ```text
//! host a ── veth ── [end ══ wire ══ end] ── veth ── port of a bridge
//! ```
//!
//! A wire carries frames as they would be on a cable, so [offloads must be off](offloads_off) where frames are made.

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

/// Two interfaces, joined.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// The interfaces' names.
    pub ends: [String; 2],
    /// From the first end to the second.
    #[serde(default)]
    pub there: Conditions,
    /// From the second end to the first.
    #[serde(default)]
    pub back: Conditions,
}

/// Why wires could not be laid, or carry no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// There is nothing to carry.
    #[error("no wires were asked for")]
    None,
    /// An interface can end one wire only.
    #[error("the interface {0} is the end of more than one wire")]
    Shared(String),
    /// There is no such interface.
    #[error("there is no interface {0}")]
    Missing(String),
    /// No packet socket, for want of root's rights or of memory.
    #[error("cannot open a packet socket on {0}: {1}")]
    Open(String, #[source] io::Error),
    /// An end was taken away, or taken down.
    #[error("the interface {0} is gone or down")]
    Gone(String),
    /// A frame was larger than the interface that it was to leave by allows.
    #[error("a frame of {1} bytes is too large for {0}; are offloads off where it was made?")]
    Oversized(String, usize),
    /// Another failure of an end.
    #[error("cannot carry frames at {0}: {1}")]
    Io(String, #[source] io::Error),
    /// No thread or pipe could be had.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
}

/// Carries frames for ever; ends with the first error. Chances follow from `seed`, each direction having its own.
pub fn run(wires: &[Wire], seed: u64) -> Result<Infallible, WireError> {
    Laid::new(wires, seed)?.run()
}

/// Wires whose ends are open: what arrives there from now on is carried once they [run](Self::run).
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

    /// What became of frames so far, kept up while the wires run: for each wire, there and back.
    pub fn tallies(&self) -> Arc<[[Tally; 2]]> {
        Arc::clone(&self.tallies)
    }

    /// Carries frames for ever, with a thread for each direction; ends with the first error.
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
    /// Takes note of how a direction ended, and ends the others.
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

    /// The first error. Threads end only after one, so without any there were no threads.
    fn into_error(self) -> WireError {
        self.error
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or(WireError::None)
    }
}

/// What became of the frames of one direction.
#[derive(Debug, Default)]
pub struct Tally {
    /// They came out at the far end.
    pub passed: Counter,
    /// Lost by chance, as the conditions ask.
    pub lost: Counter,
    /// They found the queue for the rate full, as the conditions ask.
    pub full: Counter,
    /// Dropped for want of room here or in the kernel: if there are any, the lab is asked for more than it can do.
    pub overflowed: Counter,
}

/// A number of frames.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// How many there were so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The command that makes `interface` handle frames as they are on a cable: whole, of the interface's size, with their
/// checksums. Run it for both interfaces of every veth pair of which one is an end, before traffic flows; either may
/// be in any namespace, and the settings go with it when it moves.
///
/// - The end's peer (a gateway's or host's interface, or a bridge's port) is where the kernel would hand over up to
///   64 KiB at once without checksums, whether it made them or forwards them from interfaces with offloads: `tx`, and
///   with it `tso` and UDP segmentation, which some kernels turn off by themselves.
/// - The end itself must not put frames together again on their way to the wire: `gro`, which is off for a new veth.
///
/// No other interface needs it, such as a host's that is on the same bridge.
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
