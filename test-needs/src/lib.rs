//! Tests with requirements beyond cargo: their own namespaces, or a program.
//!
//! A test file that uses this has `harness = false` in its `Cargo.toml`, and a `main` that lists its tests with their
//! requirements. If one is not met, the tests are reported as ignored, with what to install; with [`EVERY_TEST`] set
//! they fail, so that CI cannot skip any. The compiler checks that the list is complete: an unlisted test is unused
//! code.
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

/// Environment variable that makes tests fail whose requirements are not met.
pub const EVERY_TEST: &str = "HANDOVER_EVERY_TEST";

/// Creates and configures network namespaces.
pub const IP: Need = Need::Program("ip", "iproute2");
/// Filters packets and translates addresses.
pub const NFT: Need = Need::Program("nft", "nftables");
/// Turns off the offloads of a network interface.
pub const ETHTOOL: Need = Need::Program("ethtool", "ethtool");
/// A gateway's port mapping daemon.
pub const MINIUPNPD: Need = Need::Program("miniupnpd", "miniupnpd-nftables");

/// Folders of programs that an ordinary user's `PATH` may lack.
const FOR_ROOT: [&str; 2] = ["/usr/sbin", "/sbin"];

/// A requirement of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A network namespace and a mount namespace, with root's rights in both: as root, or as an ordinary user where the
    /// kernel permits user namespaces. All tests of the file run in them, and what they create there is removed when
    /// the process ends. `ip netns` works, and `/run` is empty.
    Namespaces,
    /// Root's rights over the computer itself, not only in namespaces.
    Root,
    /// Socket buffers of this many bytes.
    Buffers(usize),
    /// A program, and the Debian package that contains it.
    Program(&'static str, &'static str),
}

/// Reasons why tests cannot run on this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A requirement is not met: which one, and what to do about it.
    Missing(String),
    /// The user has declared the requirement unavailable, so the tests are ignored even with [`EVERY_TEST`].
    GivenUp(String),
}

/// A test: its name and its function. It fails by panicking.
pub type Test = (&'static str, fn());

/// Turns functions into tests with the same names.
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
    /// Checks a requirement common to all tests.
    also: Option<fn() -> Result<(), Lack>>,
    together: Option<usize>,
}

impl Tests {
    /// Adds tests, each of which has all of these requirements.
    #[must_use]
    pub fn needing(mut self, needs: &'static [Need], tests: Vec<Test>) -> Self {
        let tests = tests.into_iter().map(|test| (needs, test));
        self.all.extend(tests);
        self
    }

    /// Adds a requirement to all tests.
    #[must_use]
    pub fn all_needing(mut self, needed: fn() -> Result<(), Lack>) -> Self {
        self.also = Some(needed);
        self
    }

    /// Limits the number of tests running at once, unless the command line sets one.
    #[must_use]
    pub fn together(mut self, tests: usize) -> Self {
        self.together = Some(tests);
        self
    }

    /// Runs the tests selected on the command line.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = arguments.test_threads.or(self.together);
        // Listing tests must not enter namespaces.
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

    /// The requirements not met on this computer, each with the reason.
    fn missing_needs(&self) -> BTreeMap<Need, String> {
        let needs = self.all.iter().flat_map(|(needs, _)| *needs);
        let needs: BTreeSet<Need> = needs.copied().collect();
        let missing = needs.into_iter().map(|need| (need, missing(need)));
        missing
            .filter_map(|(need, words)| Some((need, words?)))
            .collect()
    }
}

/// A test that runs if nothing is lacking.
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

/// Returns why a requirement is not met, and what to do about it. For namespaces this process is replaced by one inside
/// them, if they can be entered.
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

/// True if this is root itself, and not an ordinary user mapped to root in a namespace.
fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole: Vec<&str> = map.split_whitespace().collect();
    rustix::process::geteuid().is_root() && whole == ["0", "0", "4294967295"]
}

/// True if socket buffers can be this large. The kernel doubles the requested size.
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
