//! The port that a device listens on, run after run where it is free: whoever was connected to a sharer that is started
//! again finds it where it was.

use std::path::Path;

/// Beside the identity.
const FILE: &str = "port";
/// Ports that are drawn from: above those of services, below those that systems give away.
const FROM: u16 = 20_000;
const MANY: u16 = 12_000;

/// The port of the device whose data folder this is, drawn if it has none yet. `None` where that can't be remembered.
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
