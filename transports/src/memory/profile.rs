//! What a simulated link is like.

use std::time::Duration;

use handover_core::time::Time;

/// What a link is like, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkProfile {
    /// How long a byte takes to the other side.
    pub delay: Duration,
    /// Up to so much more, drawn for each piece. Bytes stay in order.
    pub jitter: Duration,
    /// Bytes a second in each direction; `None` is as fast as they come.
    pub bandwidth: Option<u64>,
    /// Bytes in one direction that were sent and not yet consumed, at the most. With the round trip this bounds the
    /// rate, as a receive window does. At least 1.
    pub window: usize,
    /// Where a sender's bytes are cut and glued on their way.
    pub pieces: Pieces,
}

/// Where a sender's bytes are cut and glued on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// They arrive as they were sent.
    Whole,
    /// Anywhere: pieces of 1 to `max` bytes, short ones as likely as long ones, some of them glued to the next.
    Random {
        /// The longest piece that is cut, in bytes. At least 1.
        max: usize,
    },
}

impl LinkProfile {
    /// A link without delay or limits, but for a window of 1 MiB: what a benchmark wants.
    pub const INSTANT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        bandwidth: None,
        window: 1 << 20,
        pieces: Pieces::Whole,
    };

    /// A local network: 1 Gbit/s, 0.2 ms.
    pub const LAN: Self = Self {
        delay: Duration::from_micros(200),
        jitter: Duration::from_micros(50),
        bandwidth: Some(125_000_000),
        window: 1 << 20,
        pieces: Pieces::Random { max: 64 << 10 },
    };

    /// Across a continent: 200 Mbit/s, 50 ms each way.
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
    /// At this moment.
    At(Time),
    /// When so many bytes have been delivered over it, both directions summed, as some relays count them.
    AfterBytes(u64),
    /// When so many have been delivered in either direction, as others do.
    AfterBytesEachWay(u64),
}
