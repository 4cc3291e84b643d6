//! The command-line program: carries out the command line with a [`handover::UnifiedP2PManager`] and reports on the
//! screen.

mod args;
mod data_dir;
mod demo;
mod doctor;
mod exit;
mod failure;
mod get;
mod history;
mod input;
mod interrupt;
mod json;
mod known;
mod metrics;
mod node;
mod peers;
mod rate;
mod record;
mod resume;
mod screen;
mod select;
mod send;
mod settings;
mod throttle;
mod typing;
mod unfinished;

use std::io::Write;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use handover_core::Multiaddr;
use handover_transports::libp2p::Libp2pTransport;
use handover_transports::{Transport, next_event};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use self::args::{Args, Command, Global, Network};
use self::exit::Exit;
use self::failure::Failure;
use self::interrupt::Interrupts;
use self::screen::{Log, Screen};
use self::settings::Settings;

/// Maximum number of blocking threads, for the disk and for cryptography.
const BLOCKING_THREADS: usize = 4;
/// Timeout for the shutdown of a transport, in which peers learn of it.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the command given on the command line and exits the process.
pub(crate) fn main() -> ! {
    keep_freed_memory();
    let args = Args::parse();
    log(args.global.verbose);
    dump_no_core();
    let screen = Screen::new(&args.global);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| perform(args, &screen)))
        // The panic has already printed its message.
        .unwrap_or_else(|_| {
            Err(Failure::internal(
                "this is a bug in handover; please report it",
            ))
        });
    let exit = result.unwrap_or_else(|failure| {
        screen.fail(&failure);
        failure.exit
    });
    let _ = std::io::stdout().flush();
    // A thread may be blocked on standard input for ever. `exit` does not wait for it.
    std::process::exit(exit.code())
}

/// Disables core dumps, because this process's memory holds keys.
fn dump_no_core() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "a crash may leave an image of this process's memory");
    }
}

/// Makes the allocator keep some freed memory. By default, glibc returns free memory at the top of its heap to the
/// system beyond 128 KiB, and the system would have to clear the same pages again for each incoming frame. glibc raises
/// that threshold once a larger block has been allocated and freed. Other allocators are not affected.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(4 << 20)));
}

fn perform(args: Args, screen: &Screen) -> Result<Exit, Failure> {
    if let Command::Completions { shell } = args.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "handover", &mut script);
        screen.data(String::from_utf8_lossy(&script).trim_end());
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(Failure::internal)?;
    let global = args.global;
    let result = runtime.block_on(async {
        let mut interrupts = Interrupts::new().map_err(Failure::internal)?;
        match args.command {
            Command::Send(send) => send::run(&send, &global, screen, &mut interrupts).await,
            Command::Get(get) => get::run(&get, &global, screen, &mut interrupts).await,
            Command::Node(node) => node::run(&node, &global, screen, &mut interrupts).await,
            Command::Doctor(doctor) => doctor::run(&doctor, &global, screen, &mut interrupts).await,
            Command::Resume(resume) => resume::run(&resume, &global, screen, &mut interrupts).await,
            Command::History(history) => history::run(&history, &global, screen),
            Command::Peers(peers) => peers::run(&peers, &global, screen),
            Command::Demo => demo::run(screen, &mut interrupts).await,
            Command::Completions { .. } => Ok(Exit::Done),
        }
    });
    runtime.shutdown_background();
    result
}

/// Builds the peer's configuration from the command line and the settings.
fn config(network: &Network, global: &Global) -> Result<handover::Config, Failure> {
    let data_dir = data_dir::choose(global.data_dir.as_deref())?;
    let settings = Settings::read(&data_dir)?;
    let or = |given: &[Multiaddr], kept: Vec<Multiaddr>| {
        if given.is_empty() {
            kept
        } else {
            given.to_vec()
        }
    };
    Ok(handover::Config {
        data_dir,
        listen: network.listen.clone(),
        tcp: network.tcp(),
        quic: network.quic(),
        nearby: network.nearby(),
        loopback: network.loopback,
        dht: !network.no_dht,
        bootstrap: or(&network.bootstrap, settings.bootstrap),
        relays: or(&network.relay, settings.relays),
        serve: settings.serve && !network.no_relay,
        hide_address: network.hide_ip,
        direct: !network.no_direct,
        port_mapping: settings.port_mapping && !network.no_port_mapping,
        device_name: if network.hide_ip {
            String::new()
        } else {
            device_name()
        },
        ..handover::Config::default()
    })
}

/// Shuts a transport down, and gives peers a moment to learn of it.
async fn shut_down(transport: &mut Libp2pTransport) {
    transport.shutdown();
    let ended = async { while next_event(transport).await.is_some() {} };
    let _ = timeout(GOODBYE, ended).await;
}

/// The host name of this computer; empty if it is unknown.
fn device_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_str()
        .unwrap_or_default()
        .to_string()
}

/// Logs to standard error, if `verbose` is not 0. Levels more detailed than `debug` would include addresses of peers.
/// Other libraries log addresses at less detailed levels, so their filters are stricter.
fn log(verbose: u8) {
    let filter = match verbose {
        0 => return,
        // quinn warns about each address that it cannot send to.
        1 => "warn,quinn_udp=error,handover=info,handover_core=info,handover_transports=info",
        _ => "info,handover=debug,handover_core=debug,handover_transports=debug",
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(false)
        .with_writer(|| Log)
        .try_init();
}
