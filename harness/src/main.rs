//! `cargo run -p handover-harness -- explore|replay|shrink`: command line of the simulator.

#![allow(clippy::print_stderr, reason = "it is a command")]

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use handover_core::mutant;
use handover_harness::explore::{Until, explore};
use handover_harness::plan::{Plan, file, shrink::shrink};
use handover_harness::sim::{Failure, run, run_narrated};
use handover_harness::{report, sim};

/// The engine under faults, in virtual time.
#[derive(Parser)]
#[command(name = "handover-harness")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the plans of fresh seeds, and save those that fail.
    Explore {
        /// For so long.
        #[arg(long, default_value_t = 1.0, value_parser = minutes)]
        minutes: f64,
        /// No more than so many seeds.
        #[arg(long, default_value_t = u64::MAX)]
        seeds: u64,
        /// The first seed; without it, the time of day decides.
        #[arg(long)]
        from: Option<u64>,
        /// On so many threads; without it, one a core.
        #[arg(long)]
        threads: Option<usize>,
        /// Where plans go that fail.
        #[arg(long, default_value = "target/simulator")]
        out: PathBuf,
    },
    /// Run one plan again and tell all that happens in it.
    Replay {
        /// A seed, or a plan's file.
        plan: String,
        /// Only say how it ends.
        #[arg(long)]
        quiet: bool,
        /// With this mutant of the engine.
        #[arg(long)]
        mutant: Option<String>,
    },
    /// Make a plan that fails smaller.
    Shrink {
        /// A seed, or a plan's file.
        plan: String,
        /// Where the smaller plan goes; without it, beside the plan, or to target/simulator.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Tries at the most.
        #[arg(long, default_value_t = 3000)]
        runs: u32,
        /// With this mutant of the engine.
        #[arg(long)]
        mutant: Option<String>,
    },
    /// Wake a mutant of the engine, and look how many seeds it takes to notice.
    Hunt {
        /// Which; without it, all of them.
        mutant: Option<String>,
        /// Seeds at the most, for each.
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
    },
    /// Print the trace of each plan: two engines with the same traces did the same things at the same times.
    Traces {
        /// So many seeds, from 0 on.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// Plans' files.
        plans: Vec<PathBuf>,
    },
    /// Save the plan of a seed, to be read or changed.
    Draw {
        /// The seed.
        seed: u64,
        /// Where it goes.
        out: PathBuf,
    },
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes < 1e6 => Ok(minutes),
        _ => Err("a number of minutes above 0".into()),
    }
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Explore {
            minutes,
            seeds,
            from,
            threads,
            out,
        } => {
            let until = Until {
                twice: false,
                seeds,
                time: Duration::from_secs_f64(minutes * 60.0),
                failures: 20,
            };
            Ok(explore_all(from, until, threads, &out))
        }
        Command::Replay {
            plan,
            quiet,
            mutant,
        } => replay(&plan, quiet, mutant.as_deref()),
        Command::Shrink {
            plan,
            out,
            runs,
            mutant,
        } => shrink_one(&plan, out, runs, mutant.as_deref()),
        Command::Hunt { mutant, seeds } => hunt(mutant.as_deref(), seeds),
        Command::Traces { seeds, plans } => traces(seeds, &plans),
        Command::Draw { seed, out } => file::write(&Plan::draw(seed), &out)
            .map(|()| true)
            .map_err(|error| format!("{} can't be written: {error}", out.display())),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(words) => {
            eprintln!("{words}");
            ExitCode::from(2)
        }
    }
}

/// Prints a line. Exits if standard output is closed.
fn say(words: impl Display) {
    if writeln!(io::stdout(), "{words}").is_err() {
        std::process::exit(0);
    }
}

/// Loads a plan, given as a seed or a file.
fn load(plan: &str) -> Result<Plan, String> {
    if let Ok(seed) = plan.parse() {
        return Ok(Plan::draw(seed));
    }
    file::read(Path::new(plan)).map_err(|error| error.to_string())
}

fn wake(mutant: Option<&str>) -> Result<Option<mutant::Awake>, String> {
    let Some(name) = mutant else {
        return Ok(None);
    };
    let names = mutant::MUTANTS.iter().map(|mutant| mutant.name);
    match mutant::wake(name) {
        Some(awake) => Ok(Some(awake)),
        None => Err(format!(
            "there is no mutant {name}; there are: {}",
            names.collect::<Vec<_>>().join(", ")
        )),
    }
}

fn explore_all(from: Option<u64>, until: Until, threads: Option<usize>, out: &Path) -> bool {
    let first = from.unwrap_or_else(time_of_day);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    say(format_args!("seeds from {first} on"));
    let told = std::sync::Mutex::new(Duration::ZERO);
    let tally = explore(first, until, threads.unwrap_or(cores), |tally| {
        let mut last = told.lock().expect("it only prints");
        if tally.spent >= *last + Duration::from_secs(20) {
            *last = tally.spent;
            eprintln!(
                "{}; {} failed",
                report::summary(tally),
                tally.failures.len()
            );
        }
    });
    for (seed, failure) in &tally.failures {
        save(*seed, failure, out);
    }
    say(report::coverage(&tally.ledger).trim_end());
    say(format_args!("{}", report::summary(&tally)));
    let missed = report::never_met(&tally.ledger);
    if !missed.is_empty() {
        say(format_args!("never met: {}", missed.join(", ")));
    }
    say(format_args!(
        "{} passed, {} failed",
        tally.scenarios,
        tally.failures.len()
    ));
    tally.failures.is_empty()
}

fn save(seed: u64, failure: &Failure, out: &Path) {
    let path = out.join(format!("seed-{seed}.json"));
    say(format_args!("seed {seed}: {failure}"));
    match file::write(&Plan::draw(seed), &path) {
        Ok(()) => say(format_args!(
            "  cargo run -p handover-harness -- shrink {}",
            path.display()
        )),
        Err(error) => say(format_args!(
            "  {} can't be written: {error}",
            path.display()
        )),
    }
}

fn time_of_day() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() * 1_000_000)
}

fn replay(plan: &str, quiet: bool, mutant: Option<&str>) -> Result<bool, String> {
    let plan = load(plan)?;
    let _awake = wake(mutant)?;
    let result = if quiet {
        run(&plan)
    } else {
        run_narrated(&plan, |line| say(line))
    };
    Ok(tell(&result))
}

fn tell(result: &Result<sim::Run, Failure>) -> bool {
    match result {
        Ok(run) => {
            say(format_args!(
                "every promise is kept: {} engine events in {:.1} simulated seconds; trace {:016x}",
                run.events,
                run.took.as_secs_f64(),
                run.trace
            ));
            true
        }
        Err(failure) => {
            say(format_args!("{failure}"));
            false
        }
    }
}

fn shrink_one(
    name: &str,
    out: Option<PathBuf>,
    runs: u32,
    mutant: Option<&str>,
) -> Result<bool, String> {
    let plan = load(name)?;
    let _awake = wake(mutant)?;
    let Err(first) = run(&plan) else {
        return Err(format!(
            "{name} keeps every promise: there is nothing to shrink"
        ));
    };
    say(format_args!("{first}"));
    let (small, tried) = shrink(plan, runs, |plan| {
        run(plan).is_err_and(|failure| failure.is_like(&first))
    });
    let out = out.unwrap_or_else(|| beside(name));
    file::write(&small, &out)
        .map_err(|error| format!("{} can't be written: {error}", out.display()))?;
    say(file::text(&small).trim_end());
    say(format_args!("after {tried} runs; {}", out.display()));
    Ok(true)
}

fn hunt(name: Option<&str>, seeds: u64) -> Result<bool, String> {
    if name.is_some() {
        wake(name)?;
    }
    let mut all = true;
    for mutant in mutant::MUTANTS {
        if name.is_some_and(|name| name != mutant.name) {
            continue;
        }
        let _awake = wake(Some(mutant.name))?;
        let caught = (0..seeds).find_map(|seed| Some((seed, run(&Plan::draw(seed)).err()?)));
        if let Some((seed, failure)) = caught {
            say(format_args!(
                "{:<24} seed {seed:<6} of {:<6} {failure}",
                mutant.name, mutant.within
            ));
            all &= seed < mutant.within;
        } else {
            say(format_args!(
                "{:<24} not noticed in {seeds} seeds",
                mutant.name
            ));
            all = false;
        }
    }
    Ok(all)
}

fn traces(seeds: u64, plans: &[PathBuf]) -> Result<bool, String> {
    let of = |result: Result<sim::Run, Failure>| match result {
        Ok(run) => format!("{:016x} {}", run.trace, run.events),
        Err(failure) => failure.to_string(),
    };
    for path in plans {
        let plan = file::read(path).map_err(|error| error.to_string())?;
        say(format_args!("{} {}", path.display(), of(run(&plan))));
    }
    for seed in 0..seeds {
        say(format_args!("{seed} {}", of(run(&Plan::draw(seed)))));
    }
    Ok(true)
}

/// Path of the file for a shrunk plan.
fn beside(name: &str) -> PathBuf {
    if name.parse::<u64>().is_ok() {
        return PathBuf::from(format!("target/simulator/seed-{name}.small.json"));
    }
    Path::new(name).with_extension("small.json")
}
