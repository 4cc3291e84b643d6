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

use std::collections::BTreeSet;
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
pub struct Tests(Vec<(&'static [Need], Test)>);

impl Tests {
    /// Adds tests, each of which needs all of this.
    #[must_use]
    pub fn needing(mut self, needs: &'static [Need], tests: Vec<Test>) -> Self {
        self.0.extend(tests.into_iter().map(|test| (needs, test)));
        self
    }

    /// Runs those that the command line asks for.
    pub fn run(self) -> ExitCode {
        let arguments = Arguments::from_args();
        let needs: BTreeSet<Need> = self
            .0
            .iter()
            .flat_map(|(needs, _)| *needs)
            .copied()
            .collect();
        // Listing is no reason to go anywhere.
        let missing: Vec<(Need, String)> = if arguments.list {
            Vec::new()
        } else {
            let missing = needs.into_iter().map(|need| (need, missing(need)));
            missing
                .filter_map(|(need, words)| Some((need, words?)))
                .collect()
        };
        let trials = self.0.into_iter().map(|(needs, test)| {
            let missing = missing.iter().filter(|(need, _)| needs.contains(need));
            let missing: Vec<&str> = missing.map(|(_, words)| words.as_str()).collect();
            trial(test, missing.join("; "))
        });
        libtest_mimic::run(&arguments, trials.collect()).exit_code()
    }
}

/// A test that runs if nothing is missing.
fn trial((name, test): Test, missing: String) -> Trial {
    Trial::ignorable_test(name, move || {
        if missing.is_empty() {
            test();
            Ok(Completion::Completed)
        } else if env::var_os(EVERY_TEST).is_some() {
            Err(Failed::from(format!("{EVERY_TEST} is set, but {missing}")))
        } else {
            Ok(Completion::ignored_with(missing))
        }
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
