//! A public internet in memory: hosts with public addresses, some of which accept no incoming connections. Every
//! connection is dialled from the listening port, as handover does over TCP.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use handover_core::{Keypair, Multiaddr, PeerId};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::{noise, yamux};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Buffer of each direction, in bytes.
const ROOM: usize = 64 << 10;

type Socket = Compat<DuplexStream>;
/// An incoming connection, and its remote address.
type Incoming = (Socket, Multiaddr);
type Connecting = BoxFuture<'static, io::Result<Socket>>;

/// The listening hosts. Each test has its own internet.
#[derive(Clone, Default)]
pub(crate) struct Internet(Arc<Mutex<HashMap<Multiaddr, mpsc::UnboundedSender<Incoming>>>>);

/// The address of a host, and whether it accepts connections.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) at: Multiaddr,
    /// If false, a firewall blocks all incoming connections.
    pub(crate) open: bool,
}

impl Internet {
    /// The transport of a host.
    pub(crate) fn of(&self, place: &Place, keys: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
        let host = Host {
            internet: self.clone(),
            place: place.clone(),
            listener: None,
            news: VecDeque::new(),
        };
        let secured = host.upgrade(Version::V1);
        let secured = secured.authenticate(noise::Config::new(keys).unwrap());
        secured.multiplex(yamux::Config::default()).boxed()
    }
}

struct Host {
    internet: Internet,
    place: Place,
    listener: Option<(ListenerId, mpsc::UnboundedReceiver<Incoming>)>,
    news: VecDeque<TransportEvent<Connecting, io::Error>>,
}

impl Transport for Host {
    type Output = Socket;
    type Error = io::Error;
    type ListenerUpgrade = Connecting;
    type Dial = Connecting;

    fn listen_on(
        &mut self,
        listener_id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if address != self.place.at {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let (tell, incoming) = mpsc::unbounded_channel();
        if self.place.open {
            let mut hosts = self.internet.0.lock().unwrap();
            hosts.insert(address.clone(), tell);
        }
        self.listener = Some((listener_id, incoming));
        self.news.push_back(TransportEvent::NewAddress {
            listener_id,
            listen_addr: address,
        });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let is_it = self.listener.as_ref().is_some_and(|(own, _)| *own == id);
        if is_it {
            self.listener = None;
        }
        is_it
    }

    fn dial(
        &mut self,
        mut address: Multiaddr,
        _: DialOpts,
    ) -> Result<Connecting, TransportError<io::Error>> {
        if let Some(Protocol::P2p(_)) = address.iter().last() {
            address.pop();
        }
        if address.iter().count() != 2 {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let found = self.internet.0.lock().unwrap().get(&address).cloned();
        let from = self.place.at.clone();
        let connecting = async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (here, there) = tokio::io::duplex(ROOM);
            let host = found.ok_or_else(refused)?;
            host.send((there.compat(), from)).map_err(|_| refused())?;
            Ok(here.compat())
        };
        Ok(connecting.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Connecting, io::Error>> {
        if let Some(news) = self.news.pop_front() {
            return Poll::Ready(news);
        }
        let local_addr = self.place.at.clone();
        let Some((listener_id, incoming)) = &mut self.listener else {
            return Poll::Pending;
        };
        match incoming.poll_recv(cx) {
            Poll::Ready(Some((socket, send_back_addr))) => Poll::Ready(TransportEvent::Incoming {
                listener_id: *listener_id,
                upgrade: async { Ok(socket) }.boxed(),
                local_addr,
                send_back_addr,
            }),
            _ => Poll::Pending,
        }
    }
}
