//! What is left for a link of what a relay lets a circuit carry.
//!
//! A circuit carries more than its link: TLS or Noise and the negotiations at its beginning, identify of both sides, messages
//! of hole punching, and the headers of Yamux and TLS around each piece.

use std::time::Duration;

use handover_core::engine::Allowance;

use super::circuit::CircuitLimit;

/// Bytes that both directions take before the link's own, and beside it while it stands.
const BESIDE: u64 = 10 * 1024;
/// One byte in so many is a header.
const HEADERS: u64 = 256;
/// A circuit is as old as this, at the most, when its link comes up.
const OPENING: Duration = Duration::from_secs(10);

/// What a link may carry on a circuit with this limit.
pub(super) fn of(limit: Option<CircuitLimit>) -> Allowance {
    let Some(CircuitLimit { bytes, duration }) = limit else {
        return Allowance::default();
    };
    let bytes = bytes.map(|bytes| bytes.saturating_sub(BESIDE + bytes / HEADERS));
    // One that does not outlive its opening is of no use; half of it may do.
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
