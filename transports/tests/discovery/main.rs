//! Peers that find each other in the DHT, meet at relays and get from there to something better: real sockets, on this
//! machine only.

mod bad_nodes;
mod direct;
mod foreign;
mod hidden;
mod peers;
mod relays;
mod search;
