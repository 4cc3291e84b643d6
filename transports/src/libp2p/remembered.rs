//! The relays with reservations, kept across runs. Relays keep the reservation of a peer that has left, some of them
//! for hours, so a restarted peer should take up its own instead of making another at a different relay.

use std::io::Read;
use std::path::{Path, PathBuf};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::config::{Libp2pError, nodes};

/// Maximum number of remembered relays.
const RELAYS: usize = 4;
/// Maximum number of addresses per relay.
const ADDRESSES: usize = 4;
/// Maximum number of bytes read from the file.
const BYTES: u64 = 16 << 10;

/// The file of remembered relays; `file` is `None` if nothing is to be stored.
#[derive(Debug)]
pub(crate) struct Remembered {
    file: Option<PathBuf>,
    /// Content of the file as last written by this process.
    written: String,
}

impl Remembered {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        let written = String::new();
        Self { file, written }
    }

    /// The relays of the last run. Unreadable lines are ignored.
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

    /// Stores the relays of this run.
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
        // Not atomic: after a crash the file may be incomplete, and the next run uses what is there.
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
