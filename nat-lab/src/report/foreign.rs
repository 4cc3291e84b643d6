//! The section about foreign nodes: the results of all rounds in one table.

use std::fmt::Write as _;

use super::cell::{Spread, first_error, verdict};
use super::{escape, words};
use crate::results::{Best, Cell, Matrix, World};

const LEGEND: &str = "\
Bootstrap nodes and relays are software that nobody here wrote, with its default limits. Times are the median and, in \
parentheses, the worst: from `send` until it tells the short code and until it is announced, from `get` until some of the \
file is there, and until all is. Direct: runs in which a direct link stood; theory allows the pairs in italics a relay \
alone. Relays: the software that links went through, and in how many runs.
";

/// Returns the section for `RESULTS.md`. Rounds appear in the given order; those with handover's own nodes are left
/// out.
pub fn foreign(rounds: &[Matrix]) -> String {
    let worlds = rounds
        .iter()
        .filter_map(|round| Some((round, round.about.world.as_ref()?)));
    let worlds: Vec<(&Matrix, &World)> = worlds.collect();
    let Some((first, world)) = worlds.first() else {
        return String::new();
    };
    let [date, commit, machine] = [&first.about.date, &first.about.commit, &first.about.machine]
        .map(|text| escape::markdown(text));
    let mut out = format!(
        "## The foreign world\n\n{LEGEND}\n- Date: {date}\n- Commit: {commit}\n- Machine: {machine}\n"
    );
    for version in &world.versions {
        let _ = writeln!(out, "- {}", escape::markdown(version));
    }
    out += &selections(&worlds);
    out += "\n| nodes | told by | pair | over | MB | complete | direct | code | announced | first byte | whole | relays |\n";
    out += "|-|-|-|-|-|-|-|-|-|-|-|-|\n";
    let mut failures = String::new();
    for (round, world) in &worlds {
        for cell in &round.cells {
            out += &row(round, world, cell);
            if let Some(error) = first_error(cell) {
                let _ = writeln!(
                    failures,
                    "- {}, {}: {}",
                    world.selection.name(),
                    escape::markdown(&super::cell_name(cell)),
                    escape::markdown(error)
                );
            }
        }
    }
    if !failures.is_empty() {
        let _ = write!(
            out,
            "\nThe first error of each row that is not complete:\n\n{failures}"
        );
    }
    out
}

/// Lists the nodes of each selection, once.
fn selections(worlds: &[(&Matrix, &World)]) -> String {
    let mut out = "\n| nodes | what they are |\n|-|-|\n".to_owned();
    let mut told = Vec::new();
    for (_, world) in worlds {
        if told.contains(&world.selection) {
            continue;
        }
        told.push(world.selection);
        let nodes = world.nodes.iter().map(|node| node.about());
        let nodes = nodes.collect::<Vec<_>>().join(" · ");
        let name = world.selection.name();
        let _ = writeln!(out, "| {name} | {} |", escape::markdown(&nodes));
    }
    out
}

fn row(round: &Matrix, world: &World, cell: &Cell) -> String {
    let found = verdict(cell);
    let [first, second] = cell.kinds.clone().map(|kind| escape::markdown(&kind));
    let pair = match (first == second && first.starts_with("one-"), found.best) {
        (true, _) => first,
        (false, Best::Direct) => format!("{first} × {second}"),
        (false, Best::Relay) => format!("*{first} × {second}*"),
    };
    let complete = if found.complete == found.runs {
        format!("{}/{}", found.complete, found.runs)
    } else {
        format!("**{}/{}**", found.complete, found.runs)
    };
    let times = &found.times;
    format!(
        "| {} | {} | {pair} | {} | {} | {complete} | {}/{} | {} | {} | {} | {} | {} |\n",
        world.selection.name(),
        world.addresses.title(),
        cell.carrier.alone(),
        round.about.bytes / 1_000_000,
        found.direct,
        found.runs,
        spread(times.code),
        spread(times.announced),
        spread(times.first_byte),
        spread(times.took),
        words::relays(cell),
    )
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| {
        format!(
            "{} ({})",
            words::time(spread.median),
            words::time(spread.worst)
        )
    })
}
