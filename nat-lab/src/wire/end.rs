//! A packet socket on one interface. It reads every incoming frame, whatever its destination.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket,
};

use super::WireError;

/// `PACKET_OUTGOING` of `linux/if_packet.h`: a frame that this machine sent.
const OUTGOING: u8 = 4;
/// Size of the kernel's buffer for a socket, in bytes: about 1,800 full frames.
const BUFFER: usize = 4 << 20;

/// One end of a wire. Both directions share its socket, which prevents loops: the kernel shows a sent frame to every
/// packet socket of the interface except the one that sent it.
pub(super) struct End {
    socket: OwnedFd,
    name: String,
    index: usize,
}

impl End {
    /// Opens the interface `name`, which must be up.
    pub(super) fn open(name: &str) -> Result<Self, WireError> {
        let failed = |errno: Errno| WireError::Open(name.to_owned(), errno.into());
        let address = address_of(name)
            .map_err(failed)?
            .ok_or_else(|| WireError::Missing(name.to_owned()))?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        )
        .map_err(failed)?;
        // Forcing the size fails for root in a user namespace. The system-wide limit then applies.
        setsockopt(&socket, RcvBufForce, &BUFFER)
            .or_else(|_| setsockopt(&socket, RcvBuf, &BUFFER))
            .map_err(failed)?;
        setsockopt(&socket, SndBufForce, &BUFFER)
            .or_else(|_| setsockopt(&socket, SndBuf, &BUFFER))
            .map_err(failed)?;
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        Ok(Self {
            socket,
            name: name.to_owned(),
            index: address.ifindex(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads the next frame into `frame` and returns its length. `None` if there is none yet.
    pub(super) fn receive(&self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), frame) {
                Ok((length, Some(from))) if self.is_incoming(&from) => return Ok(Some(length)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(self.failure(errno)),
            }
        }
    }

    /// True for frames that arrived at this interface. Excludes the kernel's own frames (such as neighbour discovery),
    /// and frames that the socket received from other interfaces before it was bound.
    fn is_incoming(&self, from: &LinkAddr) -> bool {
        from.ifindex() == self.index && from.pkttype() != OUTGOING
    }

    /// Sends a frame. Returns false if the kernel had no buffer space for it.
    pub(super) fn send(&self, frame: &[u8]) -> Result<bool, WireError> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::ENOMEM) => return Ok(false),
                Err(Errno::EMSGSIZE) => {
                    return Err(WireError::Oversized(self.name.clone(), frame.len()));
                }
                Err(errno) => return Err(self.failure(errno)),
            }
        }
    }

    fn failure(&self, errno: Errno) -> WireError {
        match errno {
            Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV => WireError::Gone(self.name.clone()),
            _ => WireError::Io(self.name.clone(), io::Error::from(errno)),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns the address to bind to. It names no protocol, so the socket's own protocol stays in force.
fn address_of(name: &str) -> Result<Option<LinkAddr>, Errno> {
    let mut links = getifaddrs()?.filter(|interface| interface.interface_name == name);
    Ok(links.find_map(|interface| interface.address?.as_link_addr().copied()))
}
