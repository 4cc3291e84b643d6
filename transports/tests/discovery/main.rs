//! Peers that find each other in the DHT, meet at relays and get from there to something better: real sockets, on this
//! machine only.

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
