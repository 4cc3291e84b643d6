//! What the operator of a node sees.

use handover_core::Multiaddr;
use handover_transports::libp2p::NetworkState;

use super::units::count;

/// Message above the first address.
pub(crate) fn serving() -> &'static str {
    "Serving the DHT and relaying. Others begin here with --bootstrap and one of these:\n"
}

/// An address of the node, in the form that others use.
pub(crate) fn address(address: &Multiaddr) -> String {
    format!("    {address}")
}

/// Message about the state of the node.
pub(crate) fn state(network: &NetworkState) -> String {
    let served = &network.served;
    format!(
        "{} known · {} kept · {} reachable through this node · {} now, {} so far",
        count(network.dht_nodes as u64, "node", "nodes"),
        count(served.dht_keys as u64, "key", "keys"),
        count(served.reservations as u64, "peer", "peers"),
        count(served.circuits as u64, "circuit", "circuits"),
        served.circuits_total
    )
}
