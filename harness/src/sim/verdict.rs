//! The result of a run.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Duration;

use super::Sim;
use super::setup::START;
use crate::ledger::{self, Ledger, Promise};
use crate::plan::Plan;
use crate::world::Listener;

/// A run without violations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Hash of everything that happened: the same plan gives the same one.
    pub trace: u64,
    /// Number of inputs and outputs of all engines.
    pub events: u64,
    /// Simulated duration.
    pub took: Duration,
    /// Faults and invariants met.
    pub ledger: Ledger,
}

/// A failed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub class: Class,
    /// The violated invariant, if any.
    pub promise: Option<Promise>,
    /// What went wrong.
    pub words: String,
    /// Source location of the panic.
    pub place: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Something happened that must never happen.
    Safety,
    /// Something that must happen did not.
    Liveness,
    /// A panic that is not a violated invariant, in the engine or the simulator itself.
    Crash,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safety => "safety",
            Self::Liveness => "liveness",
            Self::Crash => "crash",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.class, self.words, self.place)
    }
}

impl Failure {
    /// True if another failure has the same apparent cause: the same invariant, or the same panic.
    pub fn is_like(&self, other: &Self) -> bool {
        self.class == other.class && self.promise == other.promise && self.place == other.place
    }
}

thread_local! {
    /// True if panics on this thread are caught and judged instead of printed.
    static JUDGED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Installs a panic hook that stays silent for judged panics, and records their location.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !JUDGED.get() {
                return loud(info);
            }
            let place = info.location().map(|place| {
                let file = place.file().rsplit("/core/").next().unwrap_or_default();
                format!("{file}:{}", place.line())
            });
            PLACE.set(place.unwrap_or_default());
        }));
    });
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Result<Run, Failure> {
    judge(|| go(plan, None))
}

/// Runs a plan, and reports everything that happens line by line.
pub fn run_narrated(plan: &Plan, listener: impl FnMut(&str) + 'static) -> Result<Run, Failure> {
    judge(|| go(plan, Some(Box::new(listener))))
}

fn go(plan: &Plan, listener: Option<Listener>) -> Run {
    let mut sim = Sim::new(plan);
    if let Some(listener) = listener {
        sim.world.narrate_to(listener);
    }
    sim.go();
    sim.finish();
    Run {
        trace: sim.world.trace(),
        events: sim.world.engine_events(),
        took: sim.world.now().since(START),
        ledger: ledger::take(),
    }
}

fn judge(go: impl FnOnce() -> Run) -> Result<Run, Failure> {
    hush();
    ledger::take();
    let before = JUDGED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(go));
    JUDGED.set(before);
    result.map_err(|cause| failure(&*cause))
}

fn failure(cause: &(dyn Any + Send)) -> Failure {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    let words = text.or(cause.downcast_ref::<&str>().copied());
    let words = words.unwrap_or("a panic without words").to_owned();
    let promise = Promise::of(&words);
    let class = match promise {
        None => Class::Crash,
        Some(Promise::Completes) => Class::Liveness,
        Some(_) => Class::Safety,
    };
    Failure {
        class,
        promise,
        words,
        place: PLACE.take(),
    }
}
