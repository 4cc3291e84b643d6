//! Asks the questions over UDP.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::course::{Course, FLOWS, left};
use super::words::{self, Ask, LONGEST, Tell};
use super::{Depends, Protocol};

/// Interval between repetitions of a packet, in case one is lost.
const AGAIN: Duration = Duration::from_millis(100);

/// Sockets of the opened flows.
pub(super) struct Udp(Vec<UdpSocket>);

impl Protocol for Udp {
    fn depart(course: &Course) -> io::Result<Self> {
        let sockets = (0..FLOWS).map(|_| course.fresh(UdpSocket::bind));
        let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
        for socket in &sockets {
            say(socket, &Ask::new(&[], None), course.at(Course::FIRST));
        }
        Ok(Self(sockets))
    }

    fn arrived(self, course: &Course) -> Vec<(u16, SocketAddr)> {
        let lost = course.lost();
        let flows = self.0.iter().filter_map(|socket| {
            let seen = outside(socket, course, lost).ok()??;
            Some((socket.local_addr().ok()?.port(), seen))
        });
        flows.collect()
    }

    fn seen(course: &Course) -> io::Result<[Option<SocketAddr>; 3]> {
        let socket = course.fresh(UdpSocket::bind)?;
        let ask = Ask::new(&[], None);
        let doors = Course::MAPPING.map(|door| course.at(door));
        let mut seen = [None; 3];
        repeat(course.lost(), |until| {
            for (door, seen) in doors.iter().zip(&seen) {
                if seen.is_none() {
                    say(&socket, &ask, *door);
                }
            }
            hear(&socket, ask.id, until, |from, tell| {
                if let Some(index) = doors.iter().position(|door| *door == from) {
                    seen[index] = Some(tell.seen);
                }
                seen.iter().all(Option::is_some)
            })
        })?;
        Ok(seen)
    }

    fn filtering(course: &Course) -> io::Result<Depends> {
        let socket = course.fresh(UdpSocket::bind)?;
        let ask = Ask::new(&[Course::OTHER_BOTH, Course::OTHER_PORT], None);
        let [called, other_port, other_both] =
            [Course::FIRST, Course::OTHER_PORT, Course::OTHER_BOTH].map(|door| course.at(door));
        let mut found = Depends::AddressAndPort;
        let everybody = after_answer(course, |until, answered| {
            say(&socket, &ask, called);
            hear(&socket, ask.id, until, |from, _| {
                *answered |= from == called;
                if from == other_port {
                    found = Depends::Address;
                }
                from == other_both
            })
        })?;
        Ok(if everybody {
            Depends::EndpointIndependent
        } else {
            found
        })
    }

    fn uncalled(course: &Course) -> io::Result<bool> {
        let asks = course.fresh(UdpSocket::bind)?;
        let silent = course.fresh(UdpSocket::bind)?;
        let ask = Ask::new(&[Course::OTHER_BOTH], Some(silent.local_addr()?));
        after_answer(course, |until, answered| {
            say(&asks, &ask, course.at(Course::FIRST));
            let half = Instant::now() + left(until) / 2;
            *answered |= hear(&asks, ask.id, half, |_, _| true)?;
            hear(&silent, ask.id, until, |_, _| true)
        })
    }

    fn hairpin(course: &Course) -> io::Result<bool> {
        let one = course.fresh(UdpSocket::bind)?;
        let other = course.fresh(UdpSocket::bind)?;
        let lost = course.lost();
        let (Some(one_outside), Some(other_outside)) =
            (outside(&one, course, lost)?, outside(&other, course, lost)?)
        else {
            return Ok(false);
        };
        let tell = Tell {
            id: Ask::new(&[], None).id,
            seen: one_outside,
        };
        repeat(Instant::now() + course.patience, |until| {
            let _ = one.send_to(&words::line(&tell), other_outside);
            let _ = other.send_to(&words::line(&tell), one_outside);
            let half = Instant::now() + left(until) / 2;
            // A packet from an inner address does not count: a peer expects packets from the address that it contacted.
            Ok(hear(&one, tell.id, half, |from, _| from == other_outside)?
                || hear(&other, tell.id, until, |from, _| from == one_outside)?)
        })
    }
}

/// Returns the source address that the server sees. `None` if no answer comes before `until`.
fn outside(socket: &UdpSocket, course: &Course, until: Instant) -> io::Result<Option<SocketAddr>> {
    let (ask, door) = (Ask::new(&[], None), course.at(Course::FIRST));
    let mut seen = None;
    repeat(until, |until| {
        say(socket, &ask, door);
        hear(socket, ask.id, until, |_, tell| {
            seen = Some(tell.seen);
            true
        })
    })?;
    Ok(seen)
}

/// Repeats `once`, with a deadline of [`AGAIN`] each time, until it returns true or time is over. Returns true if it
/// did.
fn repeat(until: Instant, mut once: impl FnMut(Instant) -> io::Result<bool>) -> io::Result<bool> {
    while Instant::now() < until {
        if once(until.min(Instant::now() + AGAIN))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As [`repeat`], but once `once` reports an answer of the server, `patience` starts anew: a busy machine may answer
/// late.
fn after_answer(
    course: &Course,
    mut once: impl FnMut(Instant, &mut bool) -> io::Result<bool>,
) -> io::Result<bool> {
    let mut answered = false;
    let mut until = course.lost();
    while Instant::now() < until {
        let before = answered;
        if once(until.min(Instant::now() + AGAIN), &mut answered)? {
            return Ok(true);
        }
        if answered && !before {
            until = Instant::now() + course.patience;
        }
    }
    Ok(false)
}

/// Sends a question. A failed send counts as a lost packet.
fn say(socket: &UdpSocket, ask: &Ask, to: SocketAddr) {
    let _ = socket.send_to(&words::line(ask), to);
}

/// Receives answers to the question `id`, until `enough` returns true or time is over. Returns true if it was enough.
fn hear(
    socket: &UdpSocket,
    id: u64,
    until: Instant,
    mut enough: impl FnMut(SocketAddr, &Tell) -> bool,
) -> io::Result<bool> {
    let mut buffer = [0; LONGEST];
    while Instant::now() < until {
        socket.set_read_timeout(Some(left(until)))?;
        // An error here is an ICMP error about a sent packet, not an answer.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let tell: Option<Tell> = words::message(&buffer[..length]);
        if tell.is_some_and(|tell| tell.id == id && enough(from, &tell)) {
            return Ok(true);
        }
    }
    Ok(false)
}
