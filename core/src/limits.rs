//! The bound of everything that a peer can make grow, in one place.

use std::time::Duration;

/// Bytes in a leaf of the Merkle tree: the smallest piece that can be checked on its own. 16 KiB keeps a leaf and its
/// proof well inside the 128 KiB after which a public circuit relay hangs up.
pub const LEAF: u32 = 16 * 1024;
/// Leaves in a group. A group is what one request usually asks for and what one frame carries at the most.
pub const LEAVES_PER_GROUP: u32 = 16;
/// Bytes in a full group: 256 KiB.
pub const GROUP: u32 = LEAF * LEAVES_PER_GROUP;
/// Bytes that one request asks for at the most where a relay is between: it may hang up after 128 KiB, and what has come
/// of an answer by then is lost.
pub const RELAYED_PIECE: u32 = LEAF;
/// Bytes of one frame's header (the CBOR message) at the most.
pub const MAX_HEADER: u32 = 64 * 1024;
/// Bytes of one frame's payload at the most.
pub const MAX_PAYLOAD: u32 = GROUP;
/// Bytes of a frame that comes before the link has keys.
pub const MAX_PLAIN_FRAME: u32 = 1024;
/// Bytes of an authenticated cipher's tag.
pub const TAG: u32 = 16;
/// Bytes of a sealed frame at the most, without its length prefix: header length, header, payload, tag.
pub const MAX_SEALED_FRAME: u32 = 4 + MAX_HEADER + MAX_PAYLOAD + TAG;

/// What a peer may make grow, and how far. The simulator runs the engine with small ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Links at once, from all peers.
    pub links: usize,
    /// Of those, links that came in from one address (see [`Network`](crate::network::Network)).
    pub links_of_one: usize,
    /// Links that came in and have not proved a key yet.
    pub links_in_handshake: usize,
    /// Of those, links from one address.
    pub links_in_handshake_of_one: usize,
    /// How long a link may take to prove its key.
    pub handshake: Duration,
    /// Bytes of an encoded manifest.
    pub manifest_bytes: u64,
    /// Entries in a manifest.
    pub manifest_entries: u32,
    /// Bytes of a path, its separators included.
    pub path_bytes: usize,
    /// Components in a path.
    pub path_depth: usize,
    /// Bytes of a share's description (name and author: `MAX_LABEL` in `manifest`).
    pub description_bytes: usize,
    /// Segments in one request.
    pub segments: usize,
    /// Requests that a receiver may have waiting at a sharer, per link.
    pub requests: usize,
    /// Bytes that one link may have read from disk and not yet written to the transport.
    pub send_buffer: u64,
    /// The same over all links of all that is served. A link that has nothing under way may always have one request read.
    pub send_buffer_total: u64,
    /// Bytes that a download asks for ahead, at the most.
    pub window: u64,
    /// Bytes that a download asks for ahead, at first.
    pub window_start: u64,
    /// Bytes that a download writes between two syncs, after each of which it notes what a crash will not lose; at the
    /// most a third of `window`.
    pub sync_every: u64,
    /// Bytes that all downloads together ask for ahead, and hold until they are on disk. A download that holds nothing
    /// may always have one request.
    pub window_total: u64,
    /// Disk jobs under way at once, per share and per download.
    pub disk_jobs: usize,
    /// Leaves or groups that may fail their check before the peer is dropped.
    pub bad_leaves: u32,
    /// Messages in a row that bring neither side forward before the peer is dropped.
    pub idle_messages: u32,
    /// How often a link is asked whether it lives, which also measures its round trip.
    pub ping_after: Duration,
    /// Silence on a link after which it counts as dead.
    pub dead_after: Duration,
    /// Wrong guesses of a short code's words, after which it is dead.
    pub guesses: u32,
    /// Peers on the local network that are remembered.
    pub nearby: usize,
    /// How long a sharer that is alive may leave everything unanswered that it was asked for.
    pub stalled: Duration,
    /// How long a download looks for its peer, at first and after every loss, before it gives up.
    pub search: Duration,
    /// The same after the loss of a link through a relay, if that is more: relays that have carried enough for somebody
    /// let them wait, some for two minutes.
    pub relay_search: Duration,
    /// Circuits that a download uses at once where relays end each after some bytes, opening and closing ones included.
    pub circuits: usize,
    /// Of those, and of all downloads' together, through one relay: as many as relays commonly let one peer have. A
    /// download that has none may always open one.
    pub circuits_per_relay: usize,
    /// Bytes that may go at once through one such relay, and in an hour after that: it is somebody else's.
    pub relay_at_once: u64,
    /// See [`Limits::relay_at_once`].
    pub relay_an_hour: u64,
    /// Addresses of one code that are dialled, or of one peer that was found otherwise.
    pub addresses: usize,
    /// Peers that one download finds in the DHT and dials.
    pub found: usize,
    /// How often a share is announced again in the DHT, whose nodes come and go. (They keep what they are told for a day
    /// or two.)
    pub announce_again: Duration,
    /// How long a new short code waits to hear whether its number is taken. Of nine million numbers hardly one is, and where
    /// two sharers have the same one the words tell them apart: that is not worth a wait that a user notices.
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
