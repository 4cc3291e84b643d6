//! One end of a link: frames queued for writing, received bytes not yet read, and the keys.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use handover_core::engine::LinkId;
use handover_core::frame::{Decoder, LinkKeys, seal};
use handover_core::message::Message;

use crate::ledger::promise;
use crate::network::Network;

/// The next frame number of every key, across all links of all hosts, including restarted ones.
#[derive(Default)]
pub(crate) struct Nonces {
    next: BTreeMap<Bytes, u64>,
}

impl Nonces {
    /// Registers new keys. Returns an identifier for them.
    fn keyed(&mut self, keys: &LinkKeys) -> Bytes {
        // A known frame sealed with the key identifies the key. It is never sent.
        let name = seal(&keys.send, 0, &Message::Withdrawn, b"").expect("a new key seals");
        let before = self.next.insert(name.clone(), 0);
        promise!(
            Nonces,
            before.is_none(),
            "a link was given a key that was used before"
        );
        name
    }

    fn seal(&mut self, name: &Bytes, seq: u64) {
        let next = self.next.get_mut(name).expect("a key that was taken in");
        promise!(
            Nonces,
            *next == seq,
            "a frame is sealed with the number {seq}, and {next} is the next"
        );
        *next += 1;
    }
}

/// One in this many frames is searched for plaintext.
const SAMPLE: u64 = 16;

/// A frame queued for writing.
struct Waiting {
    rest: Bytes,
    /// Its frame number, if the engine must be told when the frame has been written.
    seq: Option<u64>,
    bulk: u64,
}

/// State of one end of a link.
pub(crate) struct Wire {
    id: LinkId,
    outbox: VecDeque<Waiting>,
    /// Number of content bytes in the outbox.
    pub(crate) bulk: u64,
    /// Bytes delivered, but not yet read.
    held: VecDeque<Bytes>,
    decoder: Decoder,
    keys: Option<(LinkKeys, Bytes)>,
    opened: u64,
}

impl Wire {
    pub(crate) fn new(id: LinkId) -> Self {
        Self {
            id,
            outbox: VecDeque::new(),
            bulk: 0,
            held: VecDeque::new(),
            decoder: Decoder::new(),
            keys: None,
            opened: 0,
        }
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.keys.is_some()
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Number of sealed frames opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Number of frames queued for writing.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Sets the keys: from now on frames are sealed. A link is keyed only once.
    pub(crate) fn key(&mut self, keys: LinkKeys, largest: u32, nonces: &mut Nonces) {
        assert!(self.keys.is_none(), "link {} was keyed twice", self.id);
        let name = nonces.keyed(&keys);
        self.keys = Some((keys, name));
        self.decoder.set_limit(largest);
    }

    /// Queues an unsealed frame.
    pub(crate) fn put(&mut self, frame: Bytes) {
        self.outbox.push_back(Waiting {
            rest: frame,
            seq: None,
            bulk: 0,
        });
    }

    /// Seals a frame and queues it. Returns the sealed bytes.
    pub(crate) fn put_sealed(
        &mut self,
        seq: u64,
        message: &Message,
        payload: &[u8],
        nonces: &mut Nonces,
    ) -> Bytes {
        let (keys, name) = self
            .keys
            .as_ref()
            .expect("frames are sealed on keyed links");
        nonces.seal(name, seq);
        let frame = seal(&keys.send, seq, message, payload).expect("no run exhausts a key");
        if let Some(begin) = payload.first_chunk::<16>()
            && seq.is_multiple_of(SAMPLE)
        {
            let shown = frame.windows(16).any(|window| window == begin);
            promise!(Secrets, !shown, "a sealed frame shows what is in it");
        }
        let bulk = payload.len() as u64;
        self.bulk += bulk;
        self.outbox.push_back(Waiting {
            rest: frame.clone(),
            seq: Some(seq),
            bulk,
        });
        frame
    }

    /// Writes as much as the network accepts. Returns the numbers of the frames written completely.
    pub(crate) fn flush(&mut self, network: &mut Network) -> Vec<u64> {
        let mut gone = Vec::new();
        while let Some(first) = self.outbox.front_mut() {
            let Ok(taken) = network.send(self.id, &first.rest) else {
                self.outbox.clear();
                break;
            };
            first.rest.advance(taken);
            if !first.rest.is_empty() {
                break;
            }
            self.bulk -= first.bulk;
            gone.extend(first.seq);
            self.outbox.pop_front();
        }
        gone
    }

    /// Stores delivered bytes until they are read.
    pub(crate) fn hold(&mut self, bytes: Bytes) {
        self.held.push_back(bytes);
    }

    /// Reads all delivered bytes, which frees their space in the network's window.
    pub(crate) fn read(&mut self, network: &mut Network) {
        for bytes in self.held.drain(..) {
            network.consumed(self.id, bytes.len());
            self.decoder.feed(&bytes);
        }
    }

    /// Returns the body of the next complete frame, if there is one.
    pub(crate) fn next_body(&mut self) -> Result<Option<BytesMut>, String> {
        self.decoder.next().map_err(|error| error.to_string())
    }

    /// Opens the body of the next sealed frame.
    pub(crate) fn open(&mut self, body: BytesMut) -> Result<handover_core::frame::Frame, String> {
        let (keys, _) = self
            .keys
            .as_ref()
            .expect("frames are opened on keyed links");
        let seq = self.opened;
        self.opened += 1;
        handover_core::frame::open(&keys.receive, seq, body).map_err(|error| error.to_string())
    }
}
