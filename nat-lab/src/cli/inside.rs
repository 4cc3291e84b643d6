//! The commands that run inside containers.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use handover_nat_lab::foreign::stand_in::{self, Manner};
use handover_nat_lab::wire::Wire;
use handover_nat_lab::{attend, probe, wire};

#[derive(Subcommand)]
pub(super) enum Inside {
    /// Keep a container up
    #[command(hide = true)]
    Idle,
    /// Run a command for as long as standard input is held
    #[command(hide = true)]
    Attend {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Carry frames between interfaces
    #[command(hide = true)]
    Wire {
        wires: String,
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Be a node that is no good
    #[command(hide = true)]
    StandIn { manner: Manner, at: SocketAddr },
    /// Answer probes
    #[command(hide = true)]
    ProbeServe {
        a: IpAddr,
        b: IpAddr,
        p: u16,
        q: u16,
    },
    /// Find out what is between here and a probe's server
    #[command(hide = true)]
    Probe {
        a: IpAddr,
        b: IpAddr,
        p: u16,
        q: u16,
        /// Milliseconds
        #[arg(long, default_value_t = 700)]
        patience: u64,
    },
}

pub(super) fn run(inside: Inside) -> ExitCode {
    match inside {
        Inside::Idle => idle(),
        Inside::Attend { command } => match attend::attend(&command) {
            Ok(status) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                ExitCode::from(code.unwrap_or(1))
            }
            Err(error) => fail(&format!("{}: {error}", command.join(" "))),
        },
        Inside::Wire { wires, seed } => {
            let wires: Vec<Wire> = match serde_json::from_str(&wires) {
                Ok(wires) => wires,
                Err(error) => return fail(&format!("no wires: {error}")),
            };
            match wire::run(&wires, seed) {
                Ok(never) => match never {},
                Err(error) => fail(&error.to_string()),
            }
        }
        Inside::StandIn { manner, at } => match stand_in::run(manner, at, || println!("ready")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        Inside::ProbeServe { a, b, p, q } => match probe::Server::bind([a, b], [p, q]) {
            Ok(server) => {
                println!("ready");
                fail(&server.run().to_string())
            }
            Err(error) => fail(&error.to_string()),
        },
        Inside::Probe {
            a,
            b,
            p,
            q,
            patience,
        } => match probe::measure([a, b], [p, q], Duration::from_millis(patience)) {
            Ok(findings) => match serde_json::to_string(&findings) {
                Ok(line) => {
                    println!("{line}");
                    ExitCode::SUCCESS
                }
                Err(error) => fail(&error.to_string()),
            },
            Err(error) => fail(&error.to_string()),
        },
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(2)
}

/// Sleeps and reaps orphaned processes, as it is the first process of its container.
fn idle() -> ExitCode {
    use rustix::process::{WaitOptions, wait};
    loop {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        std::thread::sleep(Duration::from_millis(500));
    }
}
