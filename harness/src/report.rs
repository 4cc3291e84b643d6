//! Human-readable results of runs.

use std::fmt::Write;

use crate::explore::Tally;
use crate::ledger::{Fault, Ledger, Promise};

/// Summarises the number of scenarios, simulated hours and events, and the speed.
#[expect(clippy::cast_precision_loss, reason = "the figures are for people")]
pub fn summary(tally: &Tally) -> String {
    let hours = tally.simulated.as_secs_f64() / 3600.0;
    let spent = tally.spent.as_secs_f64().max(1e-9);
    format!(
        "{} scenarios, {hours:.1} simulated hours, {} engine events; on one core {:.0} scenarios and {:.0} events a second, {:.0} times as fast as life",
        tally.scenarios,
        tally.events,
        tally.scenarios as f64 / spent,
        tally.events as f64 / spent,
        tally.simulated.as_secs_f64() / spent,
    )
}

/// Lists every fault and every invariant with the number of times it was met.
pub fn coverage(ledger: &Ledger) -> String {
    let mut table = String::from("faults\n");
    for fault in Fault::ALL {
        let _ = writeln!(table, "  {:<26}{:>14}", fault.name(), ledger.fault(*fault));
    }
    table.push_str("promises\n");
    for promise in Promise::ALL {
        let count = ledger.promise(*promise);
        let _ = writeln!(table, "  {:<26}{count:>14}", promise.name());
    }
    table
}

/// Names of the faults that never took effect and the invariants that were never checked.
pub fn never_met(ledger: &Ledger) -> Vec<&'static str> {
    let faults = Fault::ALL.iter().filter(|fault| ledger.fault(**fault) == 0);
    let promises = Promise::ALL
        .iter()
        .filter(|promise| ledger.promise(**promise) == 0);
    faults
        .map(|fault| fault.name())
        .chain(promises.map(|promise| promise.name()))
        .collect()
}
