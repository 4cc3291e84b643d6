//! The device's listen port. It is reused on every run while it is free, so that a sharer that restarts is reachable at
//! its old address.

use std::path::Path;

/// Name of the file that stores the port, in the data folder beside the identity.
const FILE: &str = "port";
/// First port of the range to draw from: above the ports of services, below the systems' ephemeral ports.
const FROM: u16 = 20_000;
const MANY: u16 = 12_000;

/// Returns the device's port from its data folder, drawing and storing one if there is none yet. Returns `None` if the
/// port cannot be stored.
pub(crate) fn of(data_dir: &Path) -> Option<u16> {
    let path = data_dir.join(FILE);
    let known = std::fs::read_to_string(&path).ok();
    let known = known.and_then(|text| text.trim().parse().ok());
    if let Some(port) = known.filter(|port| *port >= 1024) {
        return Some(port);
    }
    let mut random = [0; 2];
    getrandom::fill(&mut random).ok()?;
    let port = FROM + u16::from_le_bytes(random) % MANY;
    std::fs::write(path, format!("{port}\n")).ok()?;
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_port_and_one_that_makes_no_sense_is_drawn_anew() {
        let folder = tempfile::tempdir().unwrap();
        let port = of(folder.path()).unwrap();
        assert_eq!(of(folder.path()), Some(port));
        for nonsense in ["", "80", "70000", "port"] {
            std::fs::write(folder.path().join(FILE), nonsense).unwrap();
            assert!((FROM..FROM + MANY).contains(&of(folder.path()).unwrap()));
        }
        assert_eq!(of(&folder.path().join("gone")), None);
    }
}
