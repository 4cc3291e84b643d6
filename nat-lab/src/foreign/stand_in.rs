//! Faulty nodes: they accept every connection and then send nothing, or random bytes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a faulty node does with connections and datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Manner {
    /// It says nothing.
    Hangs,
    /// It says things that mean nothing.
    TalksRubbish,
}

/// Maximum number of connections held open. One more closes the oldest.
const MOST: usize = 256;
/// Number of random bytes sent on each connection. `DATAGRAM` is the number sent for each received datagram.
const RUBBISH: usize = 4096;
const DATAGRAM: usize = 1200;

/// Runs a faulty node at an address, over TCP and UDP, until an error.
///
/// # Errors
///
/// The address can't be bound, or a connection can't be accepted.
pub fn run(manner: Manner, at: SocketAddr, listening: impl FnOnce()) -> io::Result<()> {
    let tcp = TcpListener::bind(at)?;
    let udp = UdpSocket::bind(at)?;
    listening();
    thread::spawn(move || datagrams(manner, &udp));
    let mut held: VecDeque<TcpStream> = VecDeque::new();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    loop {
        let (mut stream, _) = tcp.accept()?;
        if manner == Manner::TalksRubbish {
            // A peer that has already left is ignored.
            let _ = stream.write_all(&rubbish::<RUBBISH>(&mut random));
        }
        held.push_back(stream);
        if held.len() > MOST {
            held.pop_front();
        }
    }
}

fn datagrams(manner: Manner, udp: &UdpSocket) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut buffer = [0; 2048];
    loop {
        let Ok((_, from)) = udp.recv_from(&mut buffer) else {
            continue;
        };
        if manner == Manner::TalksRubbish {
            let _ = udp.send_to(&rubbish::<DATAGRAM>(&mut random), from);
        }
    }
}

fn rubbish<const LENGTH: usize>(random: &mut ChaCha8Rng) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    random.fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Returns an address whose port was free a moment ago.
    fn somewhere() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    fn stand_in(manner: Manner) -> TcpStream {
        let at = somewhere();
        let (up, is_up) = mpsc::channel();
        thread::spawn(move || run(manner, at, || up.send(()).unwrap()));
        is_up.recv().unwrap();
        TcpStream::connect(at).unwrap()
    }

    #[test]
    fn one_that_hangs_accepts_and_says_nothing() {
        let mut stream = stand_in(Manner::Hangs);
        let short = Some(Duration::from_millis(50));
        stream.set_read_timeout(short).unwrap();
        let read = stream.read(&mut [0; 16]).unwrap_err();
        assert!(
            matches!(
                read.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
            "{read}"
        );
    }

    #[test]
    fn one_that_talks_rubbish_does_so_unasked() {
        let mut stream = stand_in(Manner::TalksRubbish);
        let mut read = [0; RUBBISH];
        stream.read_exact(&mut read).unwrap();
        assert_ne!(read, [0; RUBBISH]);
    }
}
