//! The user's permanent settings, in `config.toml` in the data folder.

use std::io;
use std::path::{Path, PathBuf};

use handover_core::Multiaddr;
use serde::Deserialize;

use super::failure::Failure;
use super::rate::Rate;

/// Name of the file.
const FILE: &str = "config.toml";

/// Content of the file. Command-line options take precedence.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Nodes for joining the DHT.
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Relays through which this peer is reachable.
    pub(crate) relays: Vec<Multiaddr>,
    /// Whether to serve the DHT and relay for others.
    pub(crate) serve: bool,
    /// Whether to ask the router for a port mapping.
    pub(crate) port_mapping: bool,
    /// Whether to record transfers and peers in the store.
    pub(crate) history: bool,
    /// Rate limits for sending and fetching. Read again while a command runs.
    pub(crate) limit_up: Option<Rate>,
    pub(crate) limit_down: Option<Rate>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            relays: Vec::new(),
            serve: true,
            port_mapping: true,
            history: true,
            limit_up: None,
            limit_down: None,
        }
    }
}

impl Settings {
    /// Returns the path of the file.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// Reads the file. Without a file, the defaults apply.
    pub(crate) fn read(data_dir: &Path) -> Result<Self, Failure> {
        let path = Self::path(data_dir);
        let wrong = |error: String| {
            Failure::usage(
                format!("{} can't be used: {}", path.display(), error.trim_end()),
                "It knows bootstrap and relays (lists of addresses), serve, port_mapping and history (true or false), \
                 limit_up and limit_down (such as \"5M\").",
            )
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(wrong),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_usual() {
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
        let node =
            "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let settings = Settings::parse(&format!("bootstrap = [\"{node}\"]\nserve = false\n"));
        let wanted = Settings {
            bootstrap: vec![node.parse().unwrap()],
            serve: false,
            ..Settings::default()
        };
        assert_eq!(settings, Ok(wanted));
    }

    #[test]
    fn slips_are_told() {
        for text in [
            "bootstrp = []",
            "relays = [\"nowhere\"]",
            "serve = 1",
            "limit_up = 5",
            "limit_down = \"0\"",
            "[",
        ] {
            assert!(Settings::parse(text).is_err(), "{text}");
        }
    }
}
