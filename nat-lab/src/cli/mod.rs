//! The command line: `list`, `verify`, `matrix`, `run`, `foreign`, `report`, `clean`, and the commands that run inside
//! containers.

mod foreign;
mod inside;
mod outside;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use handover_nat_lab::foreign::Selection;
use handover_nat_lab::results::Carrier;
use handover_nat_lab::wire::Conditions;

/// Real peers behind emulated NATs: what connects, how, and how fast
#[derive(Parser)]
#[command(
    name = "handover-nat-lab",
    version,
    after_help = "Exit codes: 0 all is as it should be, 1 something fell short, 2 the lab could not do what it was asked, 130 interrupted"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name the places that peers can be at
    List,
    /// Probe every place, and say what it is
    Verify {
        /// Only these
        #[arg(value_name = "PLACE")]
        only: Vec<String>,
    },
    /// Hand files over between every two places
    Matrix(Box<MatrixArgs>),
    /// Play a scenario, and keep what is logged and what passes by
    Run {
        /// The scenario's file; see nat-lab/scenarios
        file: PathBuf,
        /// Play it so often
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        repeats: u32,
        /// The nodes that peers begin with, if they are to be others than the scenario says
        #[arg(long)]
        world: Option<WorldName>,
        /// Which foreign nodes
        #[arg(
            long,
            value_name = "NODES",
            requires = "world",
            default_value = "mixed"
        )]
        nodes: Selection,
        /// Make no transfer: keep the network up until Ctrl-C, and say how to run programs on its hosts
        #[arg(long, conflicts_with = "repeats")]
        hold: bool,
        /// Where logs and captures go
        #[arg(long, value_name = "FOLDER", default_value = "target/nat-lab/scenario")]
        out: PathBuf,
    },
    /// The foreign world: nodes that nobody here wrote
    Foreign {
        #[command(subcommand)]
        command: foreign::Foreign,
    },
    /// Draw results anew: the table, RESULTS.md and a page, from what `matrix` saved
    Report {
        /// Results; several of one commit are joined
        #[arg(required = true, value_name = "JSON")]
        files: Vec<PathBuf>,
        /// Reasons for what falls short: a TOML file of "prc x sym, tcp" = "why"
        #[arg(long, value_name = "TOML")]
        reasons: Option<PathBuf>,
        /// Where the three go
        #[arg(long, value_name = "FOLDER", default_value = "target/nat-lab/report")]
        out: PathBuf,
    },
    /// Remove what a lab that was killed left behind
    Clean,
    /// What runs inside of containers
    #[command(flatten)]
    Inside(inside::Inside),
}

#[derive(clap::Args)]
struct MatrixArgs {
    /// Only these places, with each other; `list` names them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these pairs, such as prc:sym
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "only", value_parser = pair)]
    pairs: Vec<[String; 2]>,
    /// The nodes that peers begin with
    #[arg(long, default_value = "own")]
    world: WorldName,
    /// Which foreign nodes, one matrix for each
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "kubo,p2pd,js,mixed,mixed-hurt"
    )]
    nodes: Vec<Selection>,
    /// Which addresses of the nodes peers are told, of those that they may connect over
    #[arg(long, default_value = "both")]
    addresses: Over,
    /// What peers may connect over
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "tcp,quic,both"
    )]
    over: Vec<Over>,
    /// Runs of each pair; in every other one the second place shares
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Transfers that go on at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
    /// Bytes of each file
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    bytes: u64,
    /// Delay of each peer's link to the internet, one way
    #[arg(long, default_value = "10 ms")]
    delay: String,
    /// Rate of that link, in each direction
    #[arg(long, default_value = "10 Mbit/s")]
    rate: String,
    /// Frames that it loses
    #[arg(long, default_value = "0 %")]
    loss: String,
    /// The order of runs follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where results go, and the logs of what fell short
    #[arg(long, value_name = "FOLDER", default_value = "target/nat-lab/matrix")]
    out: PathBuf,
}

/// The nodes that peers bootstrap from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WorldName {
    /// Two of `handover node`.
    Own,
    /// Software that nobody here wrote.
    Foreign,
}

/// Parses a pair of places, such as `prc:sym`.
fn pair(text: &str) -> Result<[String; 2], String> {
    let (first, second) = text
        .split_once(':')
        .ok_or("a pair is two places with a colon between them")?;
    Ok([first, second].map(str::to_owned))
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Over {
    Tcp,
    Quic,
    Both,
}

impl From<Over> for Carrier {
    fn from(over: Over) -> Self {
        match over {
            Over::Tcp => Self::Tcp,
            Over::Quic => Self::Quic,
            Over::Both => Self::Both,
        }
    }
}

impl MatrixArgs {
    fn link(&self) -> Result<Conditions, String> {
        let link = serde_json::json!({ "delay": self.delay, "rate": self.rate, "loss": self.loss });
        serde_json::from_value(link).map_err(|error| error.to_string())
    }
}

pub(crate) fn run() -> ExitCode {
    match Args::parse().command {
        Command::Inside(inside) => inside::run(inside),
        command => outside::run(command),
    }
}
