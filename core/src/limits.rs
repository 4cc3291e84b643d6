//! The bounds of everything that a peer can make grow, in one place.

use std::time::Duration;

/// Length of a leaf of the Merkle tree, in bytes: the smallest piece that can be verified on its own. At 16 KiB, a leaf
/// and its proof are far below the 128 KiB after which a public circuit relay closes a circuit.
pub const LEAF: u32 = 16 * 1024;
/// Number of leaves in a group. A request usually asks for one group, and a frame carries one group at most.
pub const LEAVES_PER_GROUP: u32 = 16;
/// Length of a full group, in bytes: 256 KiB.
pub const GROUP: u32 = LEAF * LEAVES_PER_GROUP;
/// Maximum length of a request over a relayed path, in bytes. The relay may close the circuit after 128 KiB, and the
/// part of an answer that has arrived by then is lost.
pub const RELAYED_PIECE: u32 = LEAF;
/// Maximum length of a frame's header (the CBOR message), in bytes.
pub const MAX_HEADER: u32 = 64 * 1024;
/// Maximum length of a frame's payload, in bytes.
pub const MAX_PAYLOAD: u32 = GROUP;
/// Maximum length of an unsealed frame, which is one sent before the link is keyed, in bytes.
pub const MAX_PLAIN_FRAME: u32 = 1024;
/// Length of an AEAD tag, in bytes.
pub const TAG: u32 = 16;
/// Maximum length of a sealed frame without its length prefix, in bytes: header length, header, payload, tag.
pub const MAX_SEALED_FRAME: u32 = 4 + MAX_HEADER + MAX_PAYLOAD + TAG;

/// Bounds of what peers can make grow. The simulator runs the engine with smaller ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of links, from all peers together.
    pub links: usize,
    /// Maximum number of links that came in from one address (see [`Network`](crate::network::Network)).
    pub links_of_one: usize,
    /// Maximum number of incoming links that are not keyed yet.
    pub links_in_handshake: usize,
    /// Maximum number of those from one address.
    pub links_in_handshake_of_one: usize,
    /// Timeout for the handshake of a link.
    pub handshake: Duration,
    /// Maximum length of an encoded manifest, in bytes.
    pub manifest_bytes: u64,
    /// Maximum number of entries in a manifest.
    pub manifest_entries: u32,
    /// Maximum length of a path including its separators, in bytes.
    pub path_bytes: usize,
    /// Maximum number of components in a path.
    pub path_depth: usize,
    /// Maximum length of a share's description, in bytes (name and author: `MAX_LABEL` in `manifest`).
    pub description_bytes: usize,
    /// Maximum number of segments in one request.
    pub segments: usize,
    /// Maximum number of unanswered requests of a receiver at a sharer, per link.
    pub requests: usize,
    /// Maximum number of bytes per link that are read from disk and not yet written to the transport.
    pub send_buffer: u64,
    /// The same over all links of all shares and seeding downloads. A link with nothing in flight may always have one
    /// request read.
    pub send_buffer_total: u64,
    /// Maximum window of a download: bytes requested ahead.
    pub window: u64,
    /// Initial window of a download, in bytes.
    pub window_start: u64,
    /// Number of bytes that a download writes between two syncs. After each sync it records what a crash will not lose.
    /// At most a third of `window` takes effect.
    pub sync_every: u64,
    /// Maximum number of bytes that all downloads together have requested or hold in memory before they are on disk. A
    /// download that holds nothing may always have one request.
    pub window_total: u64,
    /// Maximum number of concurrent disk jobs, per share and per download.
    pub disk_jobs: usize,
    /// Number of failed verifications (leaves, groups or files) at which the peer is dropped.
    pub bad_leaves: u32,
    /// Budget of messages per link that bring neither side forward. Progress refills it, and so does time, slowly. The
    /// peer is dropped when it is empty.
    pub idle_messages: u32,
    /// Interval between pings on a link, which check that it is alive and measure its round trip.
    pub ping_after: Duration,
    /// Time without any data on a link after which it counts as dead.
    pub dead_after: Duration,
    /// Number of wrong guesses at a short code's words after which the code is dead. Also the number of password proofs
    /// that a receiver may send per code.
    pub guesses: u32,
    /// Maximum number of neighbours that are remembered.
    pub nearby: usize,
    /// Timeout for a sharer that is alive but answers none of the requests made to it.
    pub stalled: Duration,
    /// Timeout of the search for a peer, at the start of a download and after every loss.
    pub search: Duration,
    /// The same after the loss of a relayed link, if longer than `search`: relays that have carried enough for one peer
    /// make it wait, some for two minutes.
    pub relay_search: Duration,
    /// Maximum number of circuits of one download where relays end each after some bytes. Circuits that are being opened
    /// or closed count too.
    pub circuits: usize,
    /// Maximum number of circuits through one relay, over all downloads: what relays commonly allow one peer. A download
    /// that has none may always open one.
    pub circuits_per_relay: usize,
    /// Maximum burst through one such relay, in bytes. The relay belongs to somebody else.
    pub relay_at_once: u64,
    /// Number of bytes per hour by which the allowance of [`Limits::relay_at_once`] refills.
    pub relay_an_hour: u64,
    /// Maximum number of addresses that are dialled of one code, or of one peer that was found otherwise.
    pub addresses: usize,
    /// Maximum number of peers that one download finds in the DHT and dials.
    pub found: usize,
    /// Interval between announcements of a share in the DHT, whose nodes come and go. (They keep a record for a day or
    /// two.)
    pub announce_again: Duration,
    /// Timeout of the lookup whether a new short code's number is taken. Of nine million numbers hardly one is, and where
    /// two sharers have the same one, the words distinguish them: not worth a delay that a user notices.
    pub number_check: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links: 256,
            links_of_one: 64,
            links_in_handshake: 64,
            links_in_handshake_of_one: 16,
            handshake: Duration::from_secs(10),
            manifest_bytes: 64 * 1024 * 1024,
            manifest_entries: 500_000,
            path_bytes: 4096,
            path_depth: 128,
            description_bytes: 4096,
            segments: 256,
            requests: 256,
            send_buffer: 4 * 1024 * 1024,
            send_buffer_total: 8 * 1024 * 1024,
            window: 12 * 1024 * 1024,
            window_start: 256 * 1024,
            sync_every: 4 * 1024 * 1024,
            window_total: 12 * 1024 * 1024,
            disk_jobs: 16,
            bad_leaves: 3,
            idle_messages: 1024,
            ping_after: Duration::from_secs(4),
            dead_after: Duration::from_secs(15),
            guesses: 5,
            nearby: 32,
            stalled: Duration::from_secs(30),
            search: Duration::from_secs(30),
            relay_search: Duration::from_mins(5),
            circuits: 12,
            circuits_per_relay: 4,
            relay_at_once: 32 * 1024 * 1024,
            relay_an_hour: 32 * 1024 * 1024,
            addresses: 32,
            found: 64,
            announce_again: Duration::from_mins(30),
            number_check: Duration::from_millis(150),
        }
    }
}
