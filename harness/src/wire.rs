//! One end of a link: frames that wait to be written, bytes that wait to be read, and the keys.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use handover_core::engine::LinkId;
use handover_core::frame::{Decoder, LinkKeys, seal};
use handover_core::message::Message;

use crate::ledger::promise;
use crate::network::Network;

/// Which keys sealed which numbers, over all links of all hosts, restarted ones too.
#[derive(Default)]
pub(crate) struct Nonces {
    next: BTreeMap<Bytes, u64>,
}

impl Nonces {
    /// Takes in new keys; returns what they are known by.
    fn keyed(&mut self, keys: &LinkKeys) -> Bytes {
        // What a key makes of a known frame names it, and never goes out.
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

/// One frame of so many is searched for what it should hide.
const SAMPLE: u64 = 16;

/// A frame that waits to be written.
struct Waiting {
    rest: Bytes,
    /// Its number, if whoever gave it wants to know when it is gone.
    seq: Option<u64>,
    bulk: u64,
}

/// What this side knows of a link.
pub(crate) struct Wire {
    id: LinkId,
    outbox: VecDeque<Waiting>,
    /// Bytes of content in the outbox.
    pub(crate) bulk: u64,
    /// Delivered and not yet to be read.
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

    /// Sealed frames that were opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Frames that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// From here on frames are sealed. A link gets keys once.
    pub(crate) fn key(&mut self, keys: LinkKeys, largest: u32, nonces: &mut Nonces) {
        assert!(self.keys.is_none(), "link {} was keyed twice", self.id);
        let name = nonces.keyed(&keys);
        self.keys = Some((keys, name));
        self.decoder.set_limit(largest);
    }

    /// Takes bytes to be written as they are.
    pub(crate) fn put(&mut self, frame: Bytes) {
        self.outbox.push_back(Waiting {
            rest: frame,
            seq: None,
            bulk: 0,
        });
    }

    /// Seals a frame and takes it to be written; returns it as it goes out.
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

    /// Writes as much as the network takes. Returns the numbers of the frames that are gone.
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

    /// Bytes were delivered.
    pub(crate) fn hold(&mut self, bytes: Bytes) {
        self.held.push_back(bytes);
    }

    /// Reads what was delivered: from now on it takes no room in the network.
    pub(crate) fn read(&mut self, network: &mut Network) {
        for bytes in self.held.drain(..) {
            network.consumed(self.id, bytes.len());
            self.decoder.feed(&bytes);
        }
    }

    /// The body of the next frame that is whole.
    pub(crate) fn next_body(&mut self) -> Result<Option<BytesMut>, String> {
        self.decoder.next().map_err(|error| error.to_string())
    }

    /// Opens the next sealed frame's body.
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
