//! `foreign`: installs the foreign nodes, and runs the measurements with them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use handover_nat_lab::foreign::{self, Round, Selection, Store};
use handover_nat_lab::ground::{Engine, World};
use handover_nat_lab::matrix::Order;
use handover_nat_lab::report;
use handover_nat_lab::results::Matrix;
use handover_nat_lab::wire::Conditions;

use super::outside::{Ended, exit, in_lab, measure_one, save_foreign, words};

#[derive(Subcommand)]
pub(super) enum Foreign {
    /// Install kubo, go-libp2p-daemon and js-libp2p, in pinned versions, once
    Install,
    /// Name the nodes, and which are used together
    List,
    /// Hand files over with each software alone: a few telling pairs
    Smoke {
        /// Where results go
        #[arg(
            long,
            value_name = "FOLDER",
            default_value = "target/nat-lab/foreign-smoke"
        )]
        out: PathBuf,
    },
    /// Hand files over with every selection of nodes, all pairs that matter, and large files over relays
    Whole {
        /// Runs of each pair
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        repeats: u32,
        /// Only rounds whose names begin so, such as mixed
        #[arg(long, value_name = "NAME", default_value = "")]
        only: String,
        /// Where results go
        #[arg(long, value_name = "FOLDER", default_value = "target/nat-lab/foreign")]
        out: PathBuf,
    },
    /// Draw the section of RESULTS.md anew, from what was saved
    Report {
        /// Results, in the order of the section
        #[arg(required = true, value_name = "JSON")]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(command: &Foreign) -> Ended {
    match command {
        Foreign::Install => install(),
        Foreign::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        Foreign::Smoke { out } => in_lab(async |engine| smoke(&engine, out).await),
        Foreign::Whole { repeats, only, out } => in_lab(async |engine| {
            let mut rounds = foreign::whole(*repeats);
            rounds.retain(|round| round.name.starts_with(only));
            let matrices = measure(&engine, &rounds, out, 4).await?;
            Ok(exit(matrices.iter().all(is_whole)))
        }),
        Foreign::Report { files } => redraw(files),
    }
}

fn install() -> Ended {
    let store = Store::install(|what| eprintln!("installing: {what}")).map_err(words)?;
    for version in Store::versions() {
        println!("{version}");
    }
    println!("at {}", store.file("").display());
    Ok(ExitCode::SUCCESS)
}

fn list() {
    println!("Nodes:");
    for software in foreign::Software::ALL {
        println!("  {:<14} {}", software.name(), software.about());
    }
    println!("\nUsed together:");
    for selection in Selection::ALL {
        println!("  {:<14} {}", selection.name(), selection.about());
    }
}

/// Runs the smoke test. Every file must arrive. Every complete run without a direct link must name its foreign relay,
/// and for each software at least one run must name a relay.
async fn smoke(engine: &Engine, out: &Path) -> Ended {
    let matrices = measure(engine, &foreign::smoke(), out, 3).await?;
    let mut good = true;
    for matrix in &matrices {
        let runs = || matrix.cells.iter().flat_map(|cell| &cell.runs);
        let stayed = runs().filter(|run| run.complete && run.direct.is_none());
        let unnamed = stayed.filter(|run| run.relays.is_empty()).count();
        let named = runs().filter(|run| !run.relays.is_empty()).count();
        if unnamed > 0 || named == 0 {
            let world = matrix.about.world.as_ref();
            let nodes = world.map_or("own", |world| world.selection.name());
            eprintln!(
                "SHORT: {nodes}: {named} runs name a relay, {unnamed} do not and stayed at one"
            );
            good = false;
        }
    }
    Ok(exit(good && matrices.iter().all(is_whole)))
}

/// True if every file arrived.
fn is_whole(matrix: &Matrix) -> bool {
    let mut runs = matrix.cells.iter().flat_map(|cell| &cell.runs);
    runs.all(|run| run.complete)
}

async fn measure(
    engine: &Engine,
    rounds: &[Round],
    out: &Path,
    at_once: usize,
) -> Result<Vec<Matrix>, String> {
    let mut matrices = Vec::new();
    for round in rounds {
        println!("\n== {}: {}", round.name, round.selection.about());
        let out = out.join(&round.name);
        let world = World::foreign(round.selection).map_err(words)?;
        let link = serde_json::json!({ "delay": "10 ms", "rate": round.rate });
        let link: Conditions = serde_json::from_value(link).map_err(words)?;
        let order = Order {
            only: Vec::new(),
            pairs: round.pairs.clone(),
            world,
            addresses: round.addresses,
            over: round.over.clone(),
            repeats: round.repeats,
            at_once,
            bytes: round.bytes,
            link,
            seed: 1,
            logs: out.join("logs"),
        };
        matrices.push(measure_one(engine, &order, &out).await?);
    }
    save_foreign(out, &matrices)?;
    Ok(matrices)
}

fn redraw(files: &[PathBuf]) -> Ended {
    let read = |path: &PathBuf| {
        let failed = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(words(error)))?;
        report::read(&text).map_err(|error| failed(words(error)))
    };
    let matrices = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    println!("{}", report::foreign(&matrices));
    Ok(ExitCode::SUCCESS)
}
