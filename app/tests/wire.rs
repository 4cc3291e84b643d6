//! Row 12: a carrier of a link's bytes, such as a relay, sees none of the transferred content.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use handover::{Config, UnifiedP2PManager};
use handover_core::engine::{
    AcceptTerms, DialId, DownloadOutcome, Event, LinkId, LookUpId, OnConflict, PathKind,
};
use handover_core::secret::MeetingPoint;
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::memory::{LinkProfile, MemoryTransport, Route, Switchboard};
use handover_transports::{Stream, Transport, TransportEvent};

type Tape = Arc<Mutex<Vec<u8>>>;

/// A transport that records every byte that its side writes to a link.
struct Tapped {
    transport: MemoryTransport,
    tape: Tape,
}

impl Transport for Tapped {
    fn local_peer(&self) -> PeerId {
        self.transport.local_peer()
    }

    fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        self.transport.dial(dial, peer, addresses);
    }

    fn announce(&mut self, point: MeetingPoint) {
        self.transport.announce(point);
    }

    fn withdraw(&mut self, point: MeetingPoint) {
        self.transport.withdraw(point);
    }

    fn look_up(&mut self, lookup: LookUpId, point: MeetingPoint) {
        self.transport.look_up(lookup, point);
    }

    fn end_look_up(&mut self, lookup: LookUpId) {
        self.transport.end_look_up(lookup);
    }

    fn reach(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.transport.reach(peer, addresses);
    }

    fn use_relay(&mut self, address: Multiaddr) {
        self.transport.use_relay(address);
    }

    fn close(&mut self, link: LinkId) {
        self.transport.close(link);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<TransportEvent>> {
        self.transport.poll_event(cx).map(|event| match event {
            Some(TransportEvent::LinkUp(mut link)) => {
                link.stream = Box::new(TappedStream {
                    stream: link.stream,
                    tape: Arc::clone(&self.tape),
                });
                Some(TransportEvent::LinkUp(link))
            }
            other => other,
        })
    }

    fn shutdown(&mut self) {
        self.transport.shutdown();
    }
}

struct TappedStream {
    stream: Box<dyn Stream>,
    tape: Tape,
}

impl AsyncRead for TappedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TappedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &written {
            self.tape.lock().unwrap().extend_from_slice(&buf[..*count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

fn holds(tape: &[u8], what: &[u8]) -> bool {
    tape.windows(what.len()).any(|window| window == what)
}

#[tokio::test]
async fn a_relay_sees_no_plaintext() {
    let folder = tempfile::tempdir().unwrap();
    let marker = b"MARKER-in-the-content-of-the-file";
    let source = folder.path().join("MARKER-in-the-name");
    std::fs::write(&source, marker.repeat(2000)).unwrap();

    let tape = Tape::default();
    let board = Switchboard::new(
        1,
        Route {
            profile: LinkProfile::INSTANT,
            path: PathKind::Relayed,
        },
    );
    let config = || Config {
        loopback: true,
        device_name: "MARKER-device".into(),
        ..Config::default()
    };
    let peer = |byte| {
        let keys = Keypair::ed25519_from_bytes([byte; 32]).unwrap();
        let transport = Tapped {
            transport: board.join(keys.public().to_peer_id()),
            tape: Arc::clone(&tape),
        };
        UnifiedP2PManager::over(Box::new(transport), keys, config())
    };
    let (mut sharer, mut receiver) = (peer(1), peer(2));
    sharer.start().await.unwrap();
    receiver.start().await.unwrap();
    let mut ignored = sharer.events().unwrap();
    tokio::spawn(async move { while ignored.recv().await.is_some() {} });
    let mut events = receiver.events().unwrap();

    let share = sharer
        .start_sharing(
            "MARKER-label",
            "MARKER-description",
            vec![source],
            "MARKER-author",
        )
        .await
        .unwrap();
    let target = folder.path().join("here");
    let id = receiver
        .start_receiving(&share.encode(), &target, "MARKER-device")
        .await
        .unwrap();
    loop {
        match events.recv().await.unwrap() {
            Event::Offer { .. } => {
                let terms = AcceptTerms {
                    select: None,
                    on_conflict: OnConflict::Skip,
                    executables: false,
                };
                receiver.accept(id, terms).await.unwrap();
            }
            Event::DownloadEnded { outcome, .. } => {
                assert!(
                    matches!(outcome, DownloadOutcome::Completed(_)),
                    "{outcome:?}"
                );
                break;
            }
            _ => {}
        }
    }
    assert_eq!(
        std::fs::read(target.join("MARKER-in-the-name")).unwrap(),
        marker.repeat(2000)
    );

    let tape = tape.lock().unwrap();
    assert!(tape.len() > marker.len() * 2000, "the tap is on the wire");
    assert!(!holds(&tape, b"MARKER"), "plaintext on the wire");
    assert!(
        !holds(&tape, share.ticket.secret.as_bytes()),
        "the secret on the wire"
    );
    assert!(
        !holds(&tape, &share.ticket.secret.psk()[..]),
        "a key on the wire"
    );
}
