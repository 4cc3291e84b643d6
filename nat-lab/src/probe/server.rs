//! The server side, with two addresses.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::tcp;
use super::words::{self, Ask, Door, LONGEST, Tell};

/// Maximum number of connections served at a time. Further ones are closed.
const CONNECTIONS: usize = 128;
/// Timeout for an idle connection, and for connecting back.
const STILL: Duration = Duration::from_secs(5);
/// Number of attempts to connect back, as the first may be lost, and the pause between them.
const BACK: (usize, Duration) = (3, Duration::from_millis(100));

/// The server that probes contact.
#[derive(Debug)]
pub struct Server {
    udp: Arc<[UdpSocket; 4]>,
    tcp: [TcpListener; 4],
    addresses: [IpAddr; 2],
}

/// Answers probes until an error at two addresses of one family, at two ports each, over UDP and TCP.
pub fn serve(addresses: [IpAddr; 2], ports: [u16; 2]) -> io::Result<Infallible> {
    Err(Server::bind(addresses, ports)?.run())
}

impl Server {
    /// Binds the ports. What arrives from now on is queued for [`run`](Self::run).
    pub fn bind([first, other]: [IpAddr; 2], [port, other_port]: [u16; 2]) -> io::Result<Self> {
        let doors = [
            SocketAddr::new(first, port),
            SocketAddr::new(first, other_port),
            SocketAddr::new(other, port),
            SocketAddr::new(other, other_port),
        ];
        let [a, b, c, d] = doors.map(UdpSocket::bind);
        let udp = Arc::new([a?, b?, c?, d?]);
        let [a, b, c, d] = doors.map(TcpListener::bind);
        let tcp = [a?, b?, c?, d?];
        Ok(Self {
            udp,
            tcp,
            addresses: [first, other],
        })
    }

    /// Answers until a socket fails. Returns the error.
    pub fn run(self) -> io::Error {
        let (failed, failure) = std::sync::mpsc::channel();
        let begin = |serve: Box<dyn FnOnce() -> io::Error + Send>| {
            let failed = failed.clone();
            thread::spawn(move || failed.send(serve()));
        };
        for index in 0..self.udp.len() {
            let sockets = Arc::clone(&self.udp);
            begin(Box::new(move || answer_datagrams(&sockets, index)));
        }
        let open = Arc::new(AtomicUsize::new(0));
        for listener in self.tcp {
            let (open, addresses) = (Arc::clone(&open), self.addresses);
            begin(Box::new(move || {
                answer_connections(&listener, addresses, &open)
            }));
        }
        failure
            .recv()
            .unwrap_or_else(|_| io::ErrorKind::Other.into())
    }
}

fn answer_datagrams(sockets: &[UdpSocket; 4], index: usize) -> io::Error {
    let mut buffer = [0; LONGEST];
    loop {
        let (length, source) = match sockets[index].recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if passing(&error) => continue,
            Err(error) => return error,
        };
        let Some(ask) = words::message::<Ask>(&buffer[..length]) else {
            continue;
        };
        let tell = words::line(&Tell {
            id: ask.id,
            seen: source,
        });
        // A failed send needs no handling, as the client asks again.
        for door in ask.from.iter().take(sockets.len()) {
            let from = usize::from(door.other_address) * 2 + usize::from(door.other_port);
            let _ = sockets[from].send_to(&tell, ask.to.unwrap_or(source));
        }
        let _ = sockets[index].send_to(&tell, source);
    }
}

fn answer_connections(
    listener: &TcpListener,
    addresses: [IpAddr; 2],
    open: &Arc<AtomicUsize>,
) -> io::Error {
    loop {
        let (stream, source) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if passing(&error) => continue,
            Err(error) => return error,
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let open = Arc::clone(open);
        thread::spawn(move || {
            // A failure needs no handling: the client notices that no answer comes.
            let _ = answer(&stream, source, addresses);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// True for an error that concerns one peer, not the socket.
fn passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Interrupted
            | Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::WouldBlock
    )
}

/// Answers one question over a connection and keeps it open until the client closes it. A gateway may drop the mapping
/// of a closed connection.
fn answer(stream: &TcpStream, source: SocketAddr, addresses: [IpAddr; 2]) -> io::Result<()> {
    stream.set_read_timeout(Some(STILL))?;
    stream.set_write_timeout(Some(STILL))?;
    let ask: Ask = words::read(stream)?;
    let tell = Tell {
        id: ask.id,
        seen: source,
    };
    words::write(stream, &tell)?;
    let back: Vec<TcpStream> = (0..BACK.0)
        .flat_map(|_| {
            let begun = call_back(&ask, source, addresses);
            thread::sleep(if begun.is_empty() {
                Duration::ZERO
            } else {
                BACK.1
            });
            begun
        })
        .collect();
    // In parallel, as each write waits until its connection is established, and some never are.
    thread::scope(|scope| {
        for stream in &back {
            let tell = &tell;
            scope.spawn(move || words::write(stream, tell));
        }
    });
    let _: io::Result<Ask> = words::read(stream);
    Ok(())
}

fn call_back(ask: &Ask, source: SocketAddr, [first, other]: [IpAddr; 2]) -> Vec<TcpStream> {
    let to = ask.to.unwrap_or(source);
    let from = |door: &Door| if door.other_address { other } else { first };
    ask.from
        .iter()
        .take(4)
        .filter_map(|door| tcp::call(SocketAddr::new(from(door), 0), to, STILL).ok())
        .collect()
}
