//! Addresses that never answer must not delay other dials.

use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use handover_transports::Transport;
use handover_transports::libp2p::{Libp2pConfig, Libp2pTransport, Listen};
use libp2p::PeerId;
use libp2p::identity::Keypair;

/// Timeout of the test.
const PATIENCE: Duration = Duration::from_mins(1);

/// Accepts connections and sends nothing on them.
struct Silent {
    listener: TcpListener,
    taken: Option<TcpStream>,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            listener,
            taken: None,
        }
    }

    /// True once a peer has connected.
    fn is_dialled(&mut self) -> bool {
        if self.taken.is_none()
            && let Ok((stream, _)) = self.listener.accept()
        {
            stream.set_nonblocking(true).unwrap();
            self.taken = Some(stream);
        }
        self.taken.is_some()
    }

    /// True while the other side is connected and waits for an answer.
    fn is_waited_for(&mut self) -> bool {
        let Some(stream) = &mut self.taken else {
            return false;
        };
        loop {
            match stream.read(&mut [0; 1024]) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}

#[tokio::test]
async fn eight_addresses_that_never_answer_do_not_hold_up_the_ninth() {
    let mut silent: Vec<Silent> = (0..9).map(|_| Silent::new()).collect();
    let node = PeerId::random();
    let addresses = silent.iter().map(|one| {
        let port = one.listener.local_addr().unwrap().port();
        format!("/ip4/127.0.0.1/tcp/{port}/p2p/{node}")
            .parse()
            .unwrap()
    });
    let mut config = Libp2pConfig::new(Keypair::generate_ed25519());
    config.listen = Listen::Nowhere;
    config.nearby = false;
    config.dht = true;
    config.bootstrap = addresses.collect();
    let mut transport = Libp2pTransport::new(&config).unwrap();

    let begun = Instant::now();
    while silent.iter_mut().any(|one| !one.is_dialled()) {
        assert!(begun.elapsed() < PATIENCE, "not all are dialled");
        let event = poll_fn(|cx| transport.poll_event(cx));
        let _ = tokio::time::timeout(Duration::from_millis(10), event).await;
    }
    assert!(
        silent.iter_mut().all(Silent::is_waited_for),
        "one was given up before another was dialled"
    );
}
