//! The network that the tests run in: a namespace with a bridge that has many addresses, all of which count as public.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use handover_nat_lab::foreign::Store;

/// Tells a process that it is inside.
const INSIDE: &str = "HANDOVER_FOREIGN_ROOM";
/// Holds the name server's address in the place of the machine's.
const RESOLVER: &str = "nameserver 11.7.0.53\noptions timeout:2 attempts:1\n";

/// How the network was come by.
pub enum Entered {
    /// This process is in it.
    Inside,
    /// A child was, and has ended so.
    Done(ExitCode),
}

/// Makes the network, and runs this program in it.
pub fn enter() -> Result<Entered, String> {
    if std::env::var_os(INSIDE).is_some() {
        return furnish().map(|()| Entered::Inside);
    }
    let unshare = unshare();
    let may = Command::new("unshare")
        .args(&unshare)
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        let advice = "it takes root, or a kernel that lets users make network namespaces, and unshare (util-linux)";
        return Err(advice.into());
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut again = Command::new("unshare");
    again.args(&unshare).arg(own).args(std::env::args().skip(1));
    let status = again.env(INSIDE, "1").status();
    let status = status.map_err(|error| error.to_string())?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(Entered::Done(ExitCode::from(code.unwrap_or(1))))
}

fn unshare() -> Vec<&'static str> {
    let mut options = vec!["--net", "--mount", "--kill-child", "--fork"];
    if !rustix::process::geteuid().is_root() {
        options.push("--map-root-user");
    }
    options
}

fn furnish() -> Result<(), String> {
    let resolver = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    std::fs::write(resolver.path(), RESOLVER).map_err(|error| error.to_string())?;
    let mut script = vec![
        "ip link set lo up".to_owned(),
        "ip link add name world type bridge".to_owned(),
        "ip link set world up".to_owned(),
        // Mounted on what the machine's own may be a link to.
        format!(
            "mount --bind {} \"$(readlink -f /etc/resolv.conf)\"",
            resolver.path().display()
        ),
        "ip addr add 11.7.0.53/8 dev world".to_owned(),
    ];
    let addresses = (1..=60).map(|number| format!("ip addr add 11.7.1.{number}/8 dev world"));
    script.extend(addresses);
    let made = Command::new("sh")
        .args(["-ec", &script.join("\n")])
        .output();
    let made = made.map_err(|error| error.to_string())?;
    if made.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&made.stderr);
    Err(format!("no network can be made: {}", words.trim()))
}

/// What is not there that every test needs.
pub fn missing() -> Option<String> {
    if let Err(error) = Store::open() {
        return Some(error.to_string());
    }
    let handover = handover();
    (!handover.is_file()).then(|| {
        format!(
            "{} is not built; do so: cargo build -p handover",
            handover.display()
        )
    })
}

/// The program under test: beside the lab's, unless another one is named.
pub fn handover() -> PathBuf {
    let named = std::env::var_os("HANDOVER_NAT_LAB_PROGRAM").map(PathBuf::from);
    named.unwrap_or_else(|| {
        Path::new(env!("CARGO_BIN_EXE_handover-nat-lab")).with_file_name("handover")
    })
}
