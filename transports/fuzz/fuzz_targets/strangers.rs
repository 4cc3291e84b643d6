//! What nodes of the DHT, relays and nodes that dial back may say: see `handover_transports::libp2p::decoders`.

#![no_main]

use handover_transports::libp2p::decoders::read_all;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_all(bytes));
