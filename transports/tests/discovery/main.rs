//! Peers that find each other in the DHT, connect through relays and upgrade to better paths: on real sockets, but only
//! on this machine.

mod any_relay;
mod bad_nodes;
mod dial_back;
mod direct;
mod fake_relay;
mod foreign;
mod hidden;
mod internet;
mod odd;
mod peers;
mod relays;
mod search;
