//! How much of a relay's circuit limit is left for the link on that circuit
//!
//! A circuit also carries the TLS or Noise handshake and the negotiations at its beginning, identify of both sides,
//! hole punching messages, and the Yamux and TLS headers around each frame.

use std::time::Duration;

use handover_core::engine::Allowance;

use super::circuit::CircuitLimit;

/// Bytes that other protocols take, in both directions, before the link starts and while it is up.
const BESIDE: u64 = 10 * 1024;
/// Overhead of headers: one byte in this many.
const HEADERS: u64 = 256;
/// Maximum age of a circuit when its link comes up.
const OPENING: Duration = Duration::from_secs(10);

/// Returns what a link may carry on a circuit with this limit.
pub(super) fn of(limit: Option<CircuitLimit>) -> Allowance {
    let Some(CircuitLimit { bytes, duration }) = limit else {
        return Allowance::default();
    };
    let bytes = bytes.map(|bytes| bytes.saturating_sub(BESIDE + bytes / HEADERS));
    // A circuit that ends before its link comes up is useless, so assume at most half of its time for that.
    let time = duration.map(|time| time.saturating_sub(OPENING.min(time / 2)));
    Allowance { bytes, time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_connection_takes_is_not_the_links() {
        assert_eq!(of(None), Allowance::default());
        let limit = CircuitLimit {
            bytes: Some(128 << 10),
            duration: Some(Duration::from_mins(2)),
        };
        let allowance = of(Some(limit));
        assert_eq!(allowance.bytes, Some(120_320));
        assert_eq!(allowance.time, Some(Duration::from_secs(110)));
        let small = CircuitLimit {
            bytes: Some(1000),
            duration: None,
        };
        assert_eq!(of(Some(small)).bytes, Some(0));
    }
}
