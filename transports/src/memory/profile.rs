//! Properties of a simulated link.

use std::time::Duration;

use handover_core::time::Time;

/// Properties of a link, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkProfile {
    /// One-way delay.
    pub delay: Duration,
    /// Maximum additional delay, drawn for each piece. Bytes stay in order.
    pub jitter: Duration,
    /// Bandwidth of each direction, in bytes per second; `None` is unlimited.
    pub bandwidth: Option<u64>,
    /// Maximum number of bytes in one direction that were sent and not yet consumed. At least 1. Together with the
    /// round trip this bounds the rate, as a receive window does.
    pub window: usize,
    /// How the sender's bytes are split and glued in transit.
    pub pieces: Pieces,
}

/// How the sender's bytes are split and glued in transit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// Not at all: they arrive as they were sent.
    Whole,
    /// Anywhere: into pieces of 1 to `max` bytes, short ones as likely as long ones, some of them glued to the next.
    Random {
        /// The longest piece that is cut, in bytes. At least 1.
        max: usize,
    },
}

impl LinkProfile {
    /// A link without delay or limits except a window of 1 MiB, for benchmarks.
    pub const INSTANT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        bandwidth: None,
        window: 1 << 20,
        pieces: Pieces::Whole,
    };

    /// A local network: 1 Gbit/s, 0.2 ms each way.
    pub const LAN: Self = Self {
        delay: Duration::from_micros(200),
        jitter: Duration::from_micros(50),
        bandwidth: Some(125_000_000),
        window: 1 << 20,
        pieces: Pieces::Random { max: 64 << 10 },
    };

    /// A link across a continent: 200 Mbit/s, 50 ms each way.
    pub const WAN: Self = Self {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(5),
        bandwidth: Some(25_000_000),
        window: 4 << 20,
        pieces: Pieces::Random { max: 16 << 10 },
    };
}

/// When a link dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// At this time.
    At(Time),
    /// Once this number of bytes has been delivered, both directions summed, as some relays count.
    AfterBytes(u64),
    /// Once this number of bytes has been delivered in either direction, as other relays count.
    AfterBytesEachWay(u64),
}
