//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use handover_core::Multiaddr;
use handover_core::engine::OnConflict;

use super::exit;
use super::rate::Rate;

const ABOUT: &str = "Moves files straight from one computer to another: no server, no account";

const LONG_ABOUT: &str = "\
Moves files straight from one computer to another: no server, no account.

`handover send` prints a code. Whoever is given it runs `handover get` and has the files. Everything is encrypted from \
end to end, and every byte is checked before it stands under its final name.";

const EXAMPLES: &str = "\
Examples:
  handover send ./mods                    share a folder; prints the code
  handover get                            fetch it; asks for the code
  tar c ./mods | handover send -          share a stream
  handover get --output - | tar x         and write it to standard output
  handover demo                           two peers on this computer, to see it work";

const SEND_EXAMPLES: &str = "\
Examples:
  handover send ./mods                    serve a folder until Ctrl-C
  handover send a.pdf b.pdf --once        two files, to one receiver
  pg_dump shop | handover send - --name shop.sql
  handover send ./mods --json             one JSON object a line, for programs

Where standard output is not a terminal, the code goes there too, on a line of its own.";

const NODE_EXAMPLES: &str = "\
Examples:
  handover node --external /ip4/203.0.113.9/tcp/4001 --external /ip4/203.0.113.9/udp/4001/quic-v1
  handover node --private                 for a network of one's own, with addresses of that network
  handover send ./mods --bootstrap /ip4/203.0.113.9/tcp/4001/p2p/12D3Koo…";

const RESUME_HELP: &str = "\
The same `get` or `send` again does it as well: what is here is not fetched again, and the code is the same.";

const DOCTOR_HELP: &str = "\
It sets itself up as `send` with the same options would, so ask it with those. Nothing is shared. It ends with 0 where
transfers over the internet are possible, and with 3 where they are not.";

const PEERS_HELP: &str = "\
Names are what peers call themselves. Who is marked \"needs no code\" and you have both run with --remember once:
  handover send ./mods --to laptop        here
  handover get --from desk                and there";

const GET_HELP: &str = "\
Where the code comes from, the first of: the argument, the variable HANDOVER_CODE, the first line of standard input if \
that is not a terminal, a prompt. As an argument the code can be seen by everybody on this computer, in the list of \
processes, and it stays in the shell's history: where that matters, use one of the others.

Examples:
  handover get                            asks for the code
  handover get --to ~/Downloads
  handover get --select '*.pdf'           only these
  handover get --yes --on-conflict rename < code.txt
  handover get --output - | tar x";

/// What was asked for.
#[derive(Debug, Parser)]
#[command(
    name = "handover",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::help()),
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// What holds for every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Print events as JSON to standard output, one object a line; ask nothing
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only what is needed: the code, questions, errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log what happens to standard error; twice for more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Where this device keeps its identity
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "HANDOVER_DATA_DIR",
        hide_env_values = true
    )]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Share files, folders or a stream, and print the code for it
    #[command(after_help = SEND_EXAMPLES)]
    Send(Send),
    /// Fetch what a code stands for
    #[command(after_help = GET_HELP)]
    Get(Get),
    /// Serve others: a bootstrap node, a server of the DHT and a relay
    #[command(after_help = NODE_EXAMPLES)]
    Node(Node),
    /// Tell what the network here allows: who can be found, and how transfers will go
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// Go on with what has begun and not ended: downloads, and shares whose program was killed
    #[command(after_help = RESUME_HELP)]
    Resume(Resume),
    /// Tell which transfers there were, the newest last
    History(History),
    /// Tell who was met, how they did, and who needs no code
    #[command(after_help = PEERS_HELP)]
    Peers(Peers),
    /// Hand a small folder from one peer to another, both on this computer
    Demo,
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete in
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Send {
    /// Files and folders; `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Call the share this [default: the name of the file or folder]
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// Tell receivers what it is
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) description: String,
    /// Tell receivers who sends it [default: the name of this computer]
    #[arg(long, value_name = "TEXT")]
    pub(crate) author: Option<String>,
    /// End when one receiver has it all
    #[arg(long, conflicts_with = "uses")]
    pub(crate) once: bool,
    /// End when this many receivers have it all
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: Option<u32>,
    /// End after so long, such as 45m, 12h or 2d
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) expires: Option<Duration>,
    /// So many words in the short code, 2 to 4: each makes it 512 times as hard to guess
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=4))]
    pub(crate) words: u8,
    /// Print a long code, which needs no DHT: it names this computer and holds the whole key
    #[arg(long)]
    pub(crate) ticket: bool,
    /// Draw the code as a QR code as well
    #[arg(long)]
    pub(crate) qr: bool,
    /// Name addresses of the local network in the long code
    #[arg(long)]
    pub(crate) lan: bool,
    /// Print a code in the old form as well: SHARECODE:ENCRYPTIONKEY:IP:PORT
    #[arg(long)]
    pub(crate) legacy: bool,
    /// Share with this peer alone, without a code, until it has it all: a name or id of `handover peers`
    #[arg(long, value_name = "PEER", conflicts_with_all = ["ticket", "qr", "lan", "legacy", "remember"])]
    pub(crate) to: Option<String>,
    /// Remember receivers that run with --remember too: the next time neither side needs a code
    #[arg(long)]
    pub(crate) remember: bool,
    /// Note neither these transfers nor who took part
    #[arg(long)]
    pub(crate) no_history: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) network: Network,
}

impl Send {
    /// Maximum number of receivers that may complete the download before the share ends.
    pub(crate) fn limit(&self) -> Option<u32> {
        if self.once { Some(1) } else { self.uses }
    }
}

#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Get {
    /// The code that the sender gave you; see below for safer ways to give it
    #[arg(conflicts_with = "from")]
    pub(crate) code: Option<String>,
    /// Fetch what this peer shares with you alone, without a code: a name or id of `handover peers`
    #[arg(long, value_name = "PEER", conflicts_with = "remember")]
    pub(crate) from: Option<String>,
    /// Put files below this folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub(crate) to: PathBuf,
    /// Put what has several names at its top there too, and not into a folder named after the share
    #[arg(long)]
    pub(crate) here: bool,
    /// `-` writes the one file to standard output, and nothing to the disk
    #[arg(long, value_name = "-", value_parser = ["-"], conflicts_with_all = ["to", "on_conflict", "exec"])]
    pub(crate) output: Option<String>,
    /// Fetch only what matches: a name at any depth, or a path from the share's top; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) select: Vec<String>,
    /// What to do with a file that exists already
    #[arg(long, value_name = "WHAT", default_value = "ask")]
    pub(crate) on_conflict: Conflict,
    /// Accept the offer without being asked
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// With --yes: let programs stay executable
    #[arg(long, requires = "yes")]
    pub(crate) exec: bool,
    /// With --yes: let files land where a shell, a session or a scheduler reads them by itself, such as .bashrc at home
    #[arg(long, requires = "yes")]
    pub(crate) dotfiles: bool,
    /// Look for the other side for so long before giving up
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) wait: Option<Duration>,
    /// With --hide-ip: go through relays that only the other side has named without asking; who runs one sees this
    /// computer's address
    #[arg(long, requires = "hide_ip")]
    pub(crate) any_relay: bool,
    /// Remember the sender, if it runs with --remember too: the next time neither side needs a code
    #[arg(long)]
    pub(crate) remember: bool,
    /// What is taken up again was accepted when it began.
    #[arg(skip)]
    pub(crate) accepted: bool,
    /// Note neither this transfer nor who sent it; which short codes were tried is noted all the same
    #[arg(long)]
    pub(crate) no_history: bool,
    /// Fetch what is elsewhere on this computer already, and do not note where these files are
    #[arg(long)]
    pub(crate) no_known: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Serve nothing of it to others who fetch the same
    #[arg(long)]
    pub(crate) no_seed: bool,
    /// When all is here, go on serving others for so long, such as 45m, 12h or 2d
    #[arg(long, value_name = "TIME", value_parser = span, conflicts_with_all = ["no_seed", "output"])]
    pub(crate) seed_for: Option<Duration>,
    #[command(flatten)]
    pub(crate) network: Network,
}

impl Get {
    /// True if the file goes to standard output.
    pub(crate) fn to_stdout(&self) -> bool {
        self.output.is_some()
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Node {
    /// The port to listen on, TCP and QUIC
    #[arg(long, value_name = "PORT", default_value_t = 4001)]
    pub(crate) port: u16,
    /// Listen here only, such as /ip4/192.168.1.20/tcp/4001; may be repeated
    #[arg(long, value_name = "ADDRESS", conflicts_with = "port")]
    pub(crate) listen: Vec<Multiaddr>,
    /// Others reach this node here; may be repeated [default: what other nodes find out]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) external: Vec<Multiaddr>,
    /// Join nobody but the --bootstrap nodes, and count every address of this computer as reachable
    #[arg(long)]
    pub(crate) private: bool,
    /// Join through this node instead of the public ones; may be repeated
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HANDOVER_BOOTSTRAP",
        value_delimiter = ','
    )]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Serve counters for Prometheus here, under /metrics; such as 127.0.0.1:9100
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Connections at once
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1024,
        help_heading = "Quotas"
    )]
    pub(crate) connections: u32,
    /// Peers that may be reachable through this node at once; 0 relays nothing
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 256,
        help_heading = "Quotas"
    )]
    pub(crate) reservations: usize,
    /// Circuits at once
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 64,
        help_heading = "Quotas"
    )]
    pub(crate) circuits: usize,
    /// Circuits of one peer at once
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 8,
        help_heading = "Quotas"
    )]
    pub(crate) circuits_per_peer: usize,
    /// KiB that one circuit carries, both ways together; 0 is without end
    #[arg(long, value_name = "KIB", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(0..=1 << 40), help_heading = "Quotas")]
    pub(crate) circuit_kib: u64,
    /// Seconds that one circuit lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Quotas")]
    pub(crate) circuit_seconds: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Look for so long at the most
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub(crate) wait: Duration,
    #[command(flatten)]
    pub(crate) network: Network,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// Its number in the list; not needed if there is one thing only
    #[arg(value_name = "NUMBER")]
    pub(crate) number: Option<usize>,
    /// Only list what could go on
    #[arg(long, conflicts_with = "number")]
    pub(crate) list: bool,
    /// Forget it, and remove what is kept of it
    #[arg(long, requires = "number")]
    pub(crate) discard: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Tell only so many, the last ones
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Forget all of them
    #[arg(long)]
    pub(crate) clear: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Peers {
    /// Forget this one, by name or id; if it needed no code, it does from now on
    #[arg(long, value_name = "PEER", conflicts_with = "forget_all")]
    pub(crate) forget: Option<String>,
    /// Forget everybody
    #[arg(long)]
    pub(crate) forget_all: bool,
}

/// How fast it may be.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Send no more than this in a second: 500K, 1.5M or 20MB (bytes of content), or bits, such as 40Mbit
    #[arg(long, value_name = "RATE")]
    pub(crate) limit_up: Option<Rate>,
    /// Fetch no more than this in a second
    #[arg(long, value_name = "RATE")]
    pub(crate) limit_down: Option<Rate>,
}

/// How this side uses the network.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Network {
    /// The other side is on this computer: let the code's addresses name it
    #[arg(long)]
    pub(crate) loopback: bool,
    /// Neither look for the other side on the local network nor be found there
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Neither look for the other side in the DHT nor be found there
    #[arg(long)]
    pub(crate) no_dht: bool,
    /// Begin with this node of the DHT instead of the public ones: an address that ends in /p2p/ and the node's
    /// identity; may be repeated
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HANDOVER_BOOTSTRAP",
        value_delimiter = ','
    )]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Be reachable through this relay before others; an address like that of --bootstrap; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) relay: Vec<Multiaddr>,
    /// Don't relay for others while this computer can be reached
    #[arg(long)]
    pub(crate) no_relay: bool,
    /// Go through relays even where a direct way is possible
    #[arg(long)]
    pub(crate) no_direct: bool,
    /// Go through relays only, so that the other side does not learn this computer's address
    #[arg(long)]
    pub(crate) hide_ip: bool,
    /// Don't ask the router for a port
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    /// Listen here only, such as /ip4/192.168.1.20/tcp/47820; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<Multiaddr>,
    /// What to connect over
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "tcp,quic"
    )]
    pub(crate) transport: Vec<Transport>,
}

impl Network {
    /// True if mDNS is to be used. Peers on one computer do not need it.
    pub(crate) fn nearby(&self) -> bool {
        !(self.no_mdns || self.loopback)
    }

    pub(crate) fn tcp(&self) -> bool {
        self.transport.contains(&Transport::Tcp)
    }

    pub(crate) fn quic(&self) -> bool {
        self.transport.contains(&Transport::Quic)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Usually the faster one
    Tcp,
    /// UDP; gets through some networks that TCP does not
    Quic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Conflict {
    /// Ask, once for all of them
    Ask,
    /// Leave what is there, do not fetch the new one
    Skip,
    /// Keep both; the new one gets a number
    Rename,
    /// Replace what is there once the new one is whole and checked
    Overwrite,
}

impl Conflict {
    /// The chosen action, or `None` if the user has to be asked.
    pub(crate) fn decided(self) -> Option<OnConflict> {
        match self {
            Self::Ask => None,
            Self::Skip => Some(OnConflict::Skip),
            Self::Rename => Some(OnConflict::Rename),
            Self::Overwrite => Some(OnConflict::Overwrite),
        }
    }
}

/// Parses a duration with a unit: `90s`, `45m`, `12h`, `2d`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time such as 90s, 45m, 12h or 2d".to_string();
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    match number.parse::<u32>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(u64::from(number) * seconds)),
        _ => Err(wrong()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a number of seconds from 1 to 86400".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn help(of: Option<&str>) -> String {
        let mut command = Args::command().term_width(100);
        command.build();
        match of {
            Some(name) => {
                let command = command.find_subcommand_mut(name).unwrap();
                command.render_long_help().to_string()
            }
            None => command.render_long_help().to_string(),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_help_says_it_all() {
        insta::assert_snapshot!("help", help(None));
        insta::assert_snapshot!("help_send", help(Some("send")));
        insta::assert_snapshot!("help_get", help(Some("get")));
        insta::assert_snapshot!("help_node", help(Some("node")));
        insta::assert_snapshot!("help_doctor", help(Some("doctor")));
        insta::assert_snapshot!("help_history", help(Some("history")));
        insta::assert_snapshot!("help_peers", help(Some("peers")));
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for line in [
            "handover send",
            "handover send a --once --uses 2",
            "handover send a --uses 0",
            "handover send a --expires 5",
            "handover send a --expires 0m",
            "handover send a --expires é",
            "handover send a --relay here",
            "handover send a --limit-up fast",
            "handover send a --limit-up 0",
            "handover get --limit-down 5Mb",
            "handover get --exec",
            "handover get --output file",
            "handover get --output - --to there",
            "handover get --wait 0",
            "handover doctor --wait 0",
            "handover get --on-conflict perhaps",
            "handover send a -q -v",
            "handover send a --listen nowhere",
            "handover send a --transport pigeon",
            "handover send a --to b --ticket",
            "handover send a --to b --remember",
            "handover get code --from b",
            "handover peers --forget a --forget-all",
            "handover history --limit some",
        ] {
            let parsed = Args::try_parse_from(line.split(' '));
            assert!(parsed.is_err(), "{line}");
        }
    }

    #[test]
    fn options_of_all_commands_stand_before_and_after_them() {
        for line in ["handover --json demo", "handover demo --json"] {
            assert!(Args::try_parse_from(line.split(' ')).unwrap().global.json);
        }
    }
}
