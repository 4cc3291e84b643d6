//! Tests that need more of a computer than cargo: namespaces of their own, or a program.
//!
//! A test file that uses this has `harness = false` in its `Cargo.toml`, and a `main` that lists its tests with what they
//! need. Where that is missing they are reported as ignored, with what to install; with [`EVERY_TEST`] set they fail, so
//! that CI can't leave one out. That the list is complete is seen to by the compiler: a test that is not in it is unused.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use handover_test_needs::{NFT, Need, Tests, tests};
//!
//! fn packets_are_filtered() {}
//!
//! fn main() -> ExitCode {
//!     Tests::default()
//!         .needing(&[Need::Namespaces, NFT], tests![packets_are_filtered])
//!         .run()
//! }
//! ```

mod namespaces;
mod permissions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::net::sockopt;

pub use permissions::obeying_permissions;

/// The variable that makes tests fail which can't be run here.
pub const EVERY_TEST: &str = "HANDOVER_EVERY_TEST";

/// Makes and configures network namespaces.
pub const IP: Need = Need::Program("ip", "iproute2");
/// Filters and translates packets.
pub const NFT: Need = Need::Program("nft", "nftables");
/// Turns a network interface's offloads off.
pub const ETHTOOL: Need = Need::Program("ethtool", "ethtool");
/// A router's daemon that maps ports.
pub const MINIUPNPD: Need = Need::Program("miniupnpd", "miniupnpd-nftables");

/// Folders of programs that an ordinary user's `PATH` may not have.
const FOR_ROOT: [&str; 2] = ["/usr/sbin", "/sbin"];

/// What a test needs of the computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A network namespace, a mount namespace and root's rights in both: root's own, or an ordinary user's where the
    /// kernel lets one make a user namespace. All tests of the file then run in them, and what they make there goes with
    /// the process. `ip netns` works, and `/run` is empty.
    Namespaces,
    /// Root's rights over the computer itself, and not only over namespaces.
    Root,
    /// Sockets with buffers of so many bytes.
    Buffers(usize),
    /// A program, and Debian's package that has it.
    Program(&'static str, &'static str),
}

/// Why tests can't run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Something is missing: what, and what to do about it.
    Missing(String),
    /// The user has said that there is no such thing here, so that nobody has to be told, whatever [`EVERY_TEST`] asks for.
    GivenUp(String),
}

/// A test: its name, and what it does. It fails by panicking.
pub type Test = (&'static str, fn());

/// Functions as tests of their names.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        vec![$((stringify!($test), $test as fn())),*]
    };
}

/// The tests of one file.
#[derive(Debug, Default)]
pub struct Tests {
    all: Vec<(&'static [Need], Test)>,
    /// Tells what else every test lacks.
    also: Option<fn() -> Result<(), Lack>>,
    together: Option<usize>,
}

impl Tests {
    /// Adds tests, each of which needs all of this.
    #[must_use]
    pub fn needing(mut self, needs: &'static [Need], tests: Vec<Test>) -> Self {
        let tests = tests.into_iter().map(|test| (needs, test));
        self.all.extend(tests);
        self
    }

    /// All tests need this too.
    #[must_use]
    pub fn all_needing(mut self, needed: fn() -> Result<(), Lack>) -> Self {
        self.also = Some(needed);
        self
    }

    /// Runs no more tests at once than this, unless the command line says how many.
    #[must_use]
    pub fn together(mut self, tests: usize) -> Self {
        self.together = Some(tests);
        self
    }

    /// Runs those that the command line asks for.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = arguments.test_threads.or(self.together);
        // Listing is no reason to go anywhere.
        let missing = if arguments.list {
            BTreeMap::new()
        } else {
            self.missing_needs()
        };
        let also = self.also.filter(|_| !arguments.list);
        let also = also.and_then(|needed| needed().err());
        let trials = self.all.into_iter().map(|(needs, test)| {
            let missing = needs.iter().filter_map(|need| missing.get(need));
            let missing: Vec<&str> = missing.map(String::as_str).collect();
            let missing = (!missing.is_empty()).then(|| Lack::Missing(missing.join("; ")));
            trial(test, missing.or(also.clone()))
        });
        libtest_mimic::run(&arguments, trials.collect()).exit_code()
    }

    /// The needs that can't be met here, each with the reason.
    fn missing_needs(&self) -> BTreeMap<Need, String> {
        let needs = self.all.iter().flat_map(|(needs, _)| *needs);
        let needs: BTreeSet<Need> = needs.copied().collect();
        let missing = needs.into_iter().map(|need| (need, missing(need)));
        missing
            .filter_map(|(need, words)| Some((need, words?)))
            .collect()
    }
}

/// A test that runs if it lacks nothing.
fn trial((name, test): Test, lack: Option<Lack>) -> Trial {
    Trial::ignorable_test(name, move || match lack {
        None => {
            test();
            Ok(Completion::Completed)
        }
        Some(Lack::Missing(words)) if env::var_os(EVERY_TEST).is_some() => {
            Err(Failed::from(format!("{EVERY_TEST} is set, but {words}")))
        }
        Some(Lack::Missing(words) | Lack::GivenUp(words)) => Ok(Completion::ignored_with(words)),
    })
}

/// Why the computer has not what is needed, and what to do about it. Where namespaces can be entered, they are: this
/// process is replaced by one inside.
fn missing(need: Need) -> Option<String> {
    match need {
        Need::Namespaces => namespaces::enter().err(),
        Need::Root => (!is_root()).then(|| "not root: run it as root".to_owned()),
        Need::Buffers(bytes) => (!buffers_hold(bytes)).then(|| {
            format!("sockets get no buffers of {bytes} bytes: run it as root, or raise sysctl net.core.rmem_max and net.core.wmem_max")
        }),
        Need::Program(program, package) => {
            (!is_there(program)).then(|| format!("no program {program}: install {package}"))
        }
    }
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders =
        env::split_paths(&path).chain(FOR_ROOT.map(|folder| Path::new(folder).to_owned()));
    folders
        .into_iter()
        .any(|folder| folder.join(program).is_file())
}

/// Whether this is root, and not an ordinary user who is called so in a namespace.
fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole: Vec<&str> = map.split_whitespace().collect();
    rustix::process::geteuid().is_root() && whole == ["0", "0", "4294967295"]
}

/// Whether a socket's buffers may be so large. The kernel doubles what it is asked for.
fn buffers_hold(bytes: usize) -> bool {
    if is_root() {
        return true;
    }
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else {
        return false;
    };
    let set = sockopt::set_socket_recv_buffer_size(&socket, bytes)
        .and_then(|()| sockopt::set_socket_send_buffer_size(&socket, bytes));
    let held = sockopt::socket_recv_buffer_size(&socket)
        .and_then(|receives| Ok(receives.min(sockopt::socket_send_buffer_size(&socket)?)));
    set.is_ok() && held.is_ok_and(|held| held >= bytes)
}
