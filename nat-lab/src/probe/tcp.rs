//! Asks the questions over TCP. A connecting socket may share its port with a listening one and with other connecting
//! ones.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol as Number, SockRef, Socket, Type};

use super::course::{Course, FLOWS, left};
use super::words::{self, Ask, Tell};
use super::{Depends, Protocol};

/// Connections of the opened flows.
pub(super) struct Tcp(Vec<TcpStream>);

impl Protocol for Tcp {
    fn depart(course: &Course) -> io::Result<Self> {
        let calls = (0..FLOWS).map(|_| course.fresh(|local| ask_first(course, local)));
        Ok(Self(calls.collect::<io::Result<_>>()?))
    }

    fn arrived(self, course: &Course) -> Vec<(u16, SocketAddr)> {
        let lost = course.lost();
        let flows = self.0.iter().filter_map(|stream| {
            let seen = told(stream, &Ask::new(&[], None), lost)?;
            Some((stream.local_addr().ok()?.port(), seen))
        });
        flows.collect()
    }

    fn seen(course: &Course) -> io::Result<[Option<SocketAddr>; 3]> {
        let streams = course.fresh(|local| {
            let [one, two, three] =
                Course::MAPPING.map(|door| call(local, course.at(door), course.patience));
            Ok([one?, two?, three?])
        })?;
        let lost = course.lost();
        Ok(streams.map(|stream| told(&stream, &Ask::new(&[], None), lost)))
    }

    fn filtering(course: &Course) -> io::Result<Depends> {
        let (listener, stream) = course.fresh(|local| open(course, local))?;
        let ask = Ask::new(&[Course::OTHER_BOTH, Course::OTHER_PORT], None);
        let (called, other) = (
            course.at(Course::FIRST).ip(),
            course.at(Course::OTHER_BOTH).ip(),
        );
        let mut found = Depends::AddressAndPort;
        if told(&stream, &ask, course.lost()).is_some() {
            accept(
                &listener,
                ask.id,
                Instant::now() + course.patience,
                |from| {
                    if from == called {
                        found = Depends::Address;
                    }
                    from == other
                },
            )?
            .then(|| found = Depends::EndpointIndependent);
        }
        Ok(found)
    }

    fn uncalled(course: &Course) -> io::Result<bool> {
        let silent = course.fresh(listen)?;
        let stream = course.fresh(|local| ask_first(course, local))?;
        let ask = Ask::new(&[Course::OTHER_BOTH], Some(silent.local_addr()?));
        let answered = told(&stream, &ask, course.lost()).is_some();
        let until = Instant::now() + course.patience;
        Ok(answered && accept(&silent, ask.id, until, |_| true)?)
    }

    fn hairpin(course: &Course) -> io::Result<bool> {
        // Both sockets also listen: on the same host, a connection may arrive before the called socket itself connects.
        let (one, one_asks) = course.fresh(|local| open(course, local))?;
        let (other, other_asks) = course.fresh(|local| open(course, local))?;
        let lost = course.lost();
        let (Some(one_outside), Some(other_outside)) = (
            told(&one_asks, &Ask::new(&[], None), lost),
            told(&other_asks, &Ask::new(&[], None), lost),
        ) else {
            return Ok(false);
        };
        // Long enough for the kernel to send a SYN twice.
        let until = Instant::now() + course.patience * 2;
        let calls = [
            call(one.local_addr()?, other_outside, course.patience),
            call(other.local_addr()?, one_outside, course.patience),
        ];
        // A connection is established only if the called side answers from the outer address that was called.
        Ok(calls
            .iter()
            .flatten()
            .any(|stream| write(stream, &Ask::new(&[], None), until).is_ok()))
    }
}

fn ask_first(course: &Course, local: SocketAddr) -> io::Result<TcpStream> {
    call(local, course.at(Course::FIRST), course.patience)
}

/// Listens on a port and connects to the first endpoint from the same port.
fn open(course: &Course, local: SocketAddr) -> io::Result<(TcpListener, TcpStream)> {
    Ok((listen(local)?, ask_first(course, local)?))
}

fn bind(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Number::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

fn listen(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(local)?;
    socket.listen(16)?;
    Ok(socket.into())
}

/// Starts connecting from `local` without waiting until the connection is established. A write waits for that, for
/// `patience` at most.
pub(super) fn call(local: SocketAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = bind(local)?;
    socket.set_nonblocking(true)?;
    let begun = socket.connect(&to.into());
    if let Err(error) = begun
        && error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error())
    {
        return Err(error);
    }
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket.into())
}

fn write(stream: &TcpStream, ask: &Ask, until: Instant) -> io::Result<()> {
    stream.set_write_timeout(Some(left(until)))?;
    words::write(stream, ask)
}

/// Returns the source address that the server sees. `None` if it does not answer before `until`.
fn told(stream: &TcpStream, ask: &Ask, until: Instant) -> Option<SocketAddr> {
    write(stream, ask, until).ok()?;
    let tell = read(stream, until).ok()?;
    (tell.id == ask.id).then_some(tell.seen)
}

fn read(stream: &TcpStream, until: Instant) -> io::Result<Tell> {
    stream.set_read_timeout(Some(left(until)))?;
    words::read(stream)
}

/// Accepts connections that answer the question `id`, until `enough` returns true or time is over. Returns true if it
/// was enough.
fn accept(
    listener: &TcpListener,
    id: u64,
    until: Instant,
    mut enough: impl FnMut(IpAddr) -> bool,
) -> io::Result<bool> {
    while Instant::now() < until {
        // The kernel uses the read timeout as the timeout of `accept`.
        SockRef::from(listener).set_read_timeout(Some(left(until)))?;
        let Ok((stream, from)) = listener.accept() else {
            continue;
        };
        // The server sends as soon as the connection is established, and it connects before the client waits for that.
        let until = Instant::now() + SAYING;
        let told = read(&stream, until).is_ok_and(|tell| tell.id == id);
        if told && enough(from.ip()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Timeout for the first message of the server on a connection that it opened.
const SAYING: Duration = Duration::from_secs(1);
