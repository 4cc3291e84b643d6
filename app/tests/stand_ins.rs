//! Impostors that pose as the sharer of a short code: each password proof that they receive is one guess at its words.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::PeerId;
use handover_core::code::{ShareCode, ShortCode, short};
use handover_core::frame;
use handover_core::message::{self, HandshakeReply, Opening, Refusal};
use handover_core::pake::Pake;
use handover_transports::libp2p::Libp2pTransport;
use handover_transports::{Link, Stream, Transport, TransportEvent, identity, next_event};
use support::{Node, Scene, peer, run};
use tokio::sync::oneshot;

/// The code that is searched for. Nobody shares it.
const CODE: &str = "4827193-amber-otter";
/// The impostors' guess.
const GUESS: &str = "4827193-otter-amber";
const STRANGERS: usize = 20;

fn short_code(text: &str) -> ShortCode {
    match ShareCode::parse(text) {
        Ok(ShareCode::Short(code)) => code,
        other => panic!("{other:?}"),
    }
}

/// Impostors on a thread of their own, which announce themselves where the code is looked up. Dropping this ends them.
struct Strangers {
    proofs: Arc<AtomicU32>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    fn start(scene: &Scene, node: &Node) -> Self {
        let proofs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&proofs);
        let (stop, stopped) = oneshot::channel();
        let (announced, all_announced) = std::sync::mpsc::channel();
        let bootstrap = node.address.parse().unwrap();
        let folders: Vec<_> = (0..STRANGERS)
            .map(|number| scene.path(&format!("stranger {number}")))
            .collect();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                for (number, folder) in folders.into_iter().enumerate() {
                    let mut config = peer::config(folder);
                    config.bootstrap = vec![Clone::clone(&bootstrap)];
                    let keypair = identity::load_or_create(&config.data_dir).unwrap();
                    let transport = Libp2pTransport::new(&config.network(keypair)).unwrap();
                    let (announced, counted) = (announced.clone(), Arc::clone(&counted));
                    tokio::spawn(stand_in(transport, number, announced, counted));
                }
                let _ = stopped.await;
            });
        });
        for _ in 0..STRANGERS {
            all_announced.recv_timeout(Duration::from_mins(1)).unwrap();
        }
        Self {
            proofs,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn proofs(&self) -> u32 {
        self.proofs.load(Ordering::Relaxed)
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One impostor: announces itself until the announcement is found, and answers every handshake.
async fn stand_in(
    mut transport: Libp2pTransport,
    number: usize,
    announced: std::sync::mpsc::Sender<()>,
    proofs: Arc<AtomicU32>,
) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let today = u32::try_from(now.as_secs() / 86_400).unwrap();
    let points = [today, today - 1].map(|day| short::meeting_point(short_code(CODE).number(), day));
    let own = transport.local_peer();
    let mut is_told = false;
    let mut again = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            _ = again.tick(), if !is_told => {
                for point in &points {
                    transport.announce(*point);
                }
            }
            event = next_event(&mut transport) => match event {
                Some(TransportEvent::Announced { report, .. }) if report.found_at > 0 && !is_told => {
                    is_told = true;
                    let _ = announced.send(());
                }
                Some(TransportEvent::LinkUp(link)) => {
                    tokio::spawn(answer(link, own, number, Arc::clone(&proofs)));
                }
                Some(_) => {}
                None => return,
            },
        }
    }
}

/// Reads a handshake request and the password proof that follows, and reacts in one of the ways an impostor might.
async fn answer(link: Link, own: PeerId, number: usize, proofs: Arc<AtomicU32>) -> Option<()> {
    let (receiver, mut stream) = (link.peer, link.stream);
    let Ok(Opening::Short(_)) = message::decode(&read(&mut stream).await?) else {
        return None;
    };
    let seed = [u8::try_from(number).unwrap(); 32];
    let (_, point) = Pake::sharer(&short_code(GUESS), &receiver, &own, seed);
    write(&mut stream, &HandshakeReply::Point(point)).await?;
    read(&mut stream).await?;
    proofs.fetch_add(1, Ordering::Relaxed);
    match number % 4 {
        // Nothing more: the stream is dropped.
        0 => {}
        1 => write(&mut stream, &HandshakeReply::Refused(Refusal::Busy)).await?,
        2 => write(&mut stream, &HandshakeReply::Refused(Refusal::WrongWords)).await?,
        _ => tokio::time::sleep(Duration::from_mins(1)).await,
    }
    Some(())
}

async fn read(stream: &mut Box<dyn Stream>) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn write(stream: &mut Box<dyn Stream>, reply: &HandshakeReply) -> Option<()> {
    let frame = frame::plain(&message::encode(reply));
    stream.write_all(&frame).await.ok()?;
    stream.flush().await.ok()
}

/// Twenty impostors once got 640 guesses in one `get` of two minutes: those that closed the link after the proof, or
/// claimed to be busy, were asked again and again.
#[test]
fn twenty_strangers_get_five_guesses_and_none_at_the_next_run() {
    let scene = Scene::new();
    let node = Node::start(&scene, "node", &[]);
    let strangers = Strangers::start(&scene, &node);
    let at = ["--no-mdns", "--bootstrap", &node.address, "--wait", "90"];
    let got = run(scene.get(CODE, "got", &at)).expect(7);
    assert!(got.stderr.contains("--ticket"), "{}", got.stderr);
    assert_eq!(strangers.proofs(), 5);
    run(scene.get(CODE, "got", &at)).expect(7);
    assert_eq!(strangers.proofs(), 5, "the next run has none left");
}
