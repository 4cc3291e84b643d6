//! The questions over TCP. A socket that calls may share its port with one that listens and with others that call.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol as Number, SockRef, Socket, Type};

use super::course::{Course, FLOWS, left};
use super::words::{self, Ask, Tell};
use super::{Depends, Protocol};

/// Flows that went out.
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
        // They listen, as who is called on one's own host may be before it calls.
        let (one, one_asks) = course.fresh(|local| open(course, local))?;
        let (other, other_asks) = course.fresh(|local| open(course, local))?;
        let lost = course.lost();
        let (Some(one_outside), Some(other_outside)) = (
            told(&one_asks, &Ask::new(&[], None), lost),
            told(&other_asks, &Ask::new(&[], None), lost),
        ) else {
            return Ok(false);
        };
        // Long enough for the kernel to say it twice.
        let until = Instant::now() + course.patience * 2;
        let calls = [
            call(one.local_addr()?, other_outside, course.patience),
            call(other.local_addr()?, one_outside, course.patience),
        ];
        // Who is called at the address outside answers from there, or no connection comes to stand.
        Ok(calls
            .iter()
            .flatten()
            .any(|stream| write(stream, &Ask::new(&[], None), until).is_ok()))
    }
}

fn ask_first(course: &Course, local: SocketAddr) -> io::Result<TcpStream> {
    call(local, course.at(Course::FIRST), course.patience)
}

/// Listens, and calls the first door from the same port.
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

/// Begins to connect from there, and doesn't wait until the connection stands: what is written does, no longer than
/// `patience`.
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

/// Where a connection is seen to come from; `None` if nobody tells until then.
fn told(stream: &TcpStream, ask: &Ask, until: Instant) -> Option<SocketAddr> {
    write(stream, ask, until).ok()?;
    let tell = read(stream, until).ok()?;
    (tell.id == ask.id).then_some(tell.seen)
}

fn read(stream: &TcpStream, until: Instant) -> io::Result<Tell> {
    stream.set_read_timeout(Some(left(until)))?;
    words::read(stream)
}

/// Accepts connections that answer the question with this id, until that is enough or time is over; whether it was.
fn accept(
    listener: &TcpListener,
    id: u64,
    until: Instant,
    mut enough: impl FnMut(IpAddr) -> bool,
) -> io::Result<bool> {
    while Instant::now() < until {
        // The kernel takes it for the time that it may take to accept.
        SockRef::from(listener).set_read_timeout(Some(left(until)))?;
        let Ok((stream, from)) = listener.accept() else {
            continue;
        };
        // It says something as soon as it stands; the server connects before that is waited for.
        let until = Instant::now() + SAYING;
        let told = read(&stream, until).is_ok_and(|tell| tell.id == id);
        if told && enough(from.ip()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How long the server may take to say something over a connection that it made.
const SAYING: Duration = Duration::from_secs(1);
