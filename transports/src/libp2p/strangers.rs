//! Detects whether a peer that this one had never sent anything has connected.
//!
//! `AutoNAT` also calls an address reachable if only peers dialled before get through, because the testing node had
//! been dialled. A peer that gave up its relays for such an address would be unreachable for all others. So a stranger,
//! a peer not dialled before, has to connect first.

use std::collections::VecDeque;
use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Maximum number of hosts remembered as dialled; routers forget them sooner.
const DIALLED: usize = 512;

/// Hosts that were dialled, and whether a stranger has connected.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    dialled: VecDeque<IpAddr>,
    came: bool,
}

impl Strangers {
    /// Records that this side has sent something to an address.
    pub(super) fn dialled(&mut self, address: &Multiaddr) {
        let Some(host) = host(address) else {
            return;
        };
        self.dialled.retain(|known| *known != host);
        self.dialled.push_back(host);
        if self.dialled.len() > DIALLED {
            self.dialled.pop_front();
        }
    }

    /// Records a direct connection over the internet from an address.
    pub(super) fn came_from(&mut self, address: &Multiaddr) {
        let stranger = host(address).is_some_and(|host| !self.dialled.contains(&host));
        self.came |= stranger;
    }

    /// True if a stranger has connected.
    pub(super) fn came(&self) -> bool {
        self.came
    }
}

fn host(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: usize, port: u16) -> Multiaddr {
        let (high, low) = (host / 256, host % 256);
        format!("/ip4/11.0.{high}.{low}/tcp/{port}")
            .parse()
            .unwrap()
    }

    #[test]
    fn who_was_dialled_is_no_stranger_on_any_port() {
        let mut strangers = Strangers::default();
        strangers.dialled(&at(1, 1));
        strangers.came_from(&at(1, 2));
        assert!(!strangers.came());
        strangers.came_from(&at(2, 1));
        assert!(strangers.came());
        strangers.came_from(&at(1, 2));
        assert!(strangers.came(), "that stays true");
    }

    #[test]
    fn the_list_of_the_dialled_is_bounded() {
        let mut strangers = Strangers::default();
        for host in 0..2 * DIALLED {
            strangers.dialled(&at(host, 1));
        }
        assert_eq!(strangers.dialled.len(), DIALLED);
    }
}
