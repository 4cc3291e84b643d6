//! Limits small enough that a short scenario reaches every one of them.

use std::time::Duration;

use handover_core::limits::{self, Limits};

const GROUP: u64 = limits::GROUP as u64;

/// Windows of a few groups, queues of a few requests. Durations are the real ones: virtual time costs nothing.
pub fn small_limits() -> Limits {
    Limits {
        links: 16,
        links_of_one: 12,
        links_in_handshake: 4,
        links_in_handshake_of_one: 3,
        handshake: Duration::from_secs(10),
        manifest_bytes: 256 << 10,
        manifest_entries: 1000,
        path_bytes: 256,
        path_depth: 8,
        description_bytes: 256,
        segments: 32,
        requests: 16,
        send_buffer: 2 * GROUP,
        send_buffer_total: 8 * GROUP,
        window: 4 * GROUP,
        window_total: 6 * GROUP,
        window_start: GROUP / 2,
        sync_every: GROUP,
        disk_jobs: 4,
        bad_leaves: 3,
        idle_messages: 64,
        ping_after: Duration::from_secs(4),
        dead_after: Duration::from_secs(15),
        guesses: 3,
        nearby: 8,
        stalled: Duration::from_secs(30),
        search: Duration::from_secs(30),
        relay_search: Duration::from_secs(30),
        found: 6,
        announce_again: Duration::from_mins(2),
        number_check: Duration::from_secs(3),
        circuits: 4,
        circuits_per_relay: 2,
        relay_at_once: 16 << 10,
        // 64 KiB per second.
        relay_an_hour: (64 << 10) * 3600,
        addresses: 8,
    }
}
