//! mDNS with bounded memory. libp2p's implementation keeps every record announced on the local network until it
//! expires, and scans all of them for each packet. This one discards all records once there are too many and queries
//! again: the peers that are really present answer. It then pauses for a while, which bounds the cost of a flood.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ExpiredListenAddr, NewListenAddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{PeerId, mdns};
use tokio::time::{Instant, Sleep};

/// Maximum number of remembered addresses of neighbours. A network of some hundred devices with several addresses each
/// has fewer.
const REMEMBERED: usize = 2048;
/// Minimum interval between discarding all records and the next time.
const AGAIN: Duration = Duration::from_secs(30);

/// An event from the local network.
#[derive(Debug)]
pub(crate) enum Heard {
    Event(mdns::Event),
    /// All previous records have been discarded.
    Forgotten,
}

/// An mDNS listener.
pub(crate) trait Listener:
    NetworkBehaviour<ConnectionHandler = dummy::ConnectionHandler, ToSwarm = mdns::Event>
{
    /// Number of peer addresses that it remembers.
    fn remembered(&self) -> usize;
}

impl Listener for mdns::tokio::Behaviour {
    fn remembered(&self) -> usize {
        self.discovered_nodes().len()
    }
}

/// A listener with bounded memory.
pub(crate) struct Bounded<L> {
    make: Box<dyn Fn() -> Option<L> + Send>,
    state: State<L>,
    /// Listen addresses of this peer, passed to each new listener.
    own: Vec<(ListenerId, Multiaddr)>,
}

enum State<L> {
    Listens {
        listener: L,
        since: Instant,
    },
    /// Paused until this time because too many addresses were announced.
    Rests(Pin<Box<Sleep>>),
    /// No listener could be created.
    Off,
}

impl<L> fmt::Debug for Bounded<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bounded(..)")
    }
}

impl<L: Listener> Bounded<L> {
    /// `make` creates a new listener each time one is needed.
    pub(crate) fn new(make: impl Fn() -> Option<L> + Send + 'static) -> Self {
        let mut bounded = Self {
            make: Box::new(make),
            state: State::Off,
            own: Vec::new(),
        };
        bounded.listen();
        bounded
    }

    fn listen(&mut self) {
        self.state = (self.make)().map_or(State::Off, |mut listener| {
            for (listener_id, addr) in &self.own {
                listener.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                    listener_id: *listener_id,
                    addr,
                }));
            }
            let since = Instant::now();
            State::Listens { listener, since }
        });
    }

    fn listener(&mut self) -> Option<&mut L> {
        match &mut self.state {
            State::Listens { listener, .. } => Some(listener),
            State::Rests(_) | State::Off => None,
        }
    }
}

impl<L: Listener + 'static> NetworkBehaviour for Bounded<L> {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Heard;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }) => {
                self.own.push((listener_id, addr.clone()));
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr }) => {
                self.own.retain(|own| *own != (listener_id, addr.clone()));
            }
            _ => {}
        }
        if let Some(listener) = self.listener() {
            listener.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match &mut self.state {
                State::Off => return Poll::Pending,
                State::Rests(until) => match until.poll_unpin(cx) {
                    Poll::Ready(()) => self.listen(),
                    Poll::Pending => return Poll::Pending,
                },
                State::Listens { listener, since } if listener.remembered() > REMEMBERED => {
                    tracing::warn!("the local network is crowded; its peers are looked for anew");
                    let until = *since + AGAIN;
                    self.state = State::Rests(Box::pin(tokio::time::sleep_until(until)));
                    return Poll::Ready(ToSwarm::GenerateEvent(Heard::Forgotten));
                }
                State::Listens { listener, .. } => match listener.poll(cx) {
                    // Callers pass neighbours' addresses with each dial, so the swarm need not remember them.
                    Poll::Ready(ToSwarm::NewExternalAddrOfPeer { .. }) => {}
                    Poll::Ready(event) => return Poll::Ready(event.map_out(Heard::Event)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use super::*;

    /// Discovers one more peer on every poll.
    #[derive(Default)]
    struct Flooded {
        heard: usize,
        own: usize,
    }

    impl Listener for Flooded {
        fn remembered(&self) -> usize {
            self.heard
        }
    }

    impl NetworkBehaviour for Flooded {
        type ConnectionHandler = dummy::ConnectionHandler;
        type ToSwarm = mdns::Event;

        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
        }

        fn handle_established_outbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: Endpoint,
            _: PortUse,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
        }

        fn on_swarm_event(&mut self, _: FromSwarm<'_>) {
            self.own += 1;
        }

        fn on_connection_handler_event(
            &mut self,
            _: PeerId,
            _: ConnectionId,
            event: THandlerOutEvent<Self>,
        ) {
            match event {}
        }

        fn poll(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
            self.heard += 1;
            let found = vec![(PeerId::random(), Multiaddr::empty())];
            Poll::Ready(ToSwarm::GenerateEvent(mdns::Event::Discovered(found)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_forgotten_and_asked_about_again_only_after_a_while() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let mut bounded = Bounded::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Some(Flooded::default())
        });
        let addr = Multiaddr::empty();
        let listener_id = ListenerId::next();
        let own = NewListenAddr {
            listener_id,
            addr: &addr,
        };
        bounded.on_swarm_event(FromSwarm::NewListenAddr(own));
        let mut cx = Context::from_waker(Waker::noop());
        let began = Instant::now();
        for round in 1..4 {
            let mut heard = 0;
            loop {
                match bounded.poll(&mut cx) {
                    Poll::Ready(ToSwarm::GenerateEvent(Heard::Event(_))) => heard += 1,
                    Poll::Ready(ToSwarm::GenerateEvent(Heard::Forgotten)) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(heard, REMEMBERED + 1);
            assert!(bounded.poll(&mut cx).is_pending(), "it rests");
            assert_eq!(made.load(Ordering::Relaxed), round);
            tokio::time::sleep(AGAIN).await;
        }
        assert!(bounded.poll(&mut cx).is_ready());
        assert!(began.elapsed() >= 3 * AGAIN);
        assert_eq!(bounded.listener().map(|listener| listener.own), Some(1));
    }
}
