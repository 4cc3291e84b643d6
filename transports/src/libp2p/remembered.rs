//! At which relays this device is reachable, run after run: relays keep a place for a peer that has left, some of them
//! for hours, and who starts again should take up its own and not one more at another relay.

use std::io::Read;
use std::path::{Path, PathBuf};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::config::{Libp2pError, nodes};

/// Relays that are remembered.
const RELAYS: usize = 4;
/// Addresses of each.
const ADDRESSES: usize = 4;
/// Nothing longer than this is read.
const BYTES: u64 = 16 << 10;

/// The file that remembers, if anything is to be remembered.
#[derive(Debug)]
pub(crate) struct Remembered {
    file: Option<PathBuf>,
    /// What is in it, as far as this side wrote it.
    written: String,
}

impl Remembered {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        let written = String::new();
        Self { file, written }
    }

    /// The relays of the last run. What can't be read is as good as nothing.
    pub(crate) fn relays(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let text = self.file.as_deref().and_then(read).unwrap_or_default();
        let mut relays: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
        for line in text.lines().take(RELAYS * ADDRESSES) {
            let address = line.parse().ok().into_iter();
            let address: Vec<Multiaddr> = address.collect();
            let named = nodes(&address, Libp2pError::Relay).unwrap_or_default();
            for (relay, addresses) in named {
                match relays.iter_mut().find(|(known, _)| *known == relay) {
                    Some((_, known)) => known.extend(addresses),
                    None => relays.push((relay, addresses)),
                }
            }
        }
        relays.truncate(RELAYS);
        relays
    }

    /// These are the relays of this run.
    pub(crate) fn remember(&mut self, relays: impl Iterator<Item = (PeerId, Vec<Multiaddr>)>) {
        let Some(file) = &self.file else {
            return;
        };
        let mut text = String::new();
        for (relay, addresses) in relays.take(RELAYS) {
            for address in addresses.into_iter().take(ADDRESSES) {
                text.push_str(&address.with(Protocol::P2p(relay)).to_string());
                text.push('\n');
            }
        }
        if text == self.written {
            return;
        }
        // Half of it after a crash is half of it; the next run does without the rest.
        if let Err(error) = std::fs::write(file, &text) {
            tracing::debug!(%error, "relays can't be remembered");
        }
        self.written = text;
    }
}

fn read(file: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(file).ok()?;
    file.take(BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nonsense_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relays");
        let at = |port: u16| -> Multiaddr { format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap() };
        let relays: Vec<_> = (1..=9)
            .map(|port| (PeerId::random(), vec![at(port), at(port + 100)]))
            .collect();
        let mut remembered = Remembered::new(Some(file.clone()));
        assert!(remembered.relays().is_empty());
        remembered.remember(relays.iter().cloned());
        assert_eq!(
            Remembered::new(Some(file.clone())).relays(),
            relays[..RELAYS]
        );
        let lines = format!(
            "nonsense\n{}\n/p2p/x\n{}",
            at(1),
            at(2).with(Protocol::P2p(relays[0].0))
        );
        std::fs::write(&file, lines).unwrap();
        let read = Remembered::new(Some(file)).relays();
        assert_eq!(read, [(relays[0].0, vec![at(2)])]);
        let mut nowhere = Remembered::new(None);
        nowhere.remember(relays.into_iter());
        assert!(nowhere.relays().is_empty());
    }
}
