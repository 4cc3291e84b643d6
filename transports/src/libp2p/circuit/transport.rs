//! Dials and listens on circuit addresses. The work is done by the behaviour, which owns the connections to relays.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use libp2p::Multiaddr;
use libp2p::core::transport::{self, DialOpts, ListenerId, TransportError};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::Stream;

use super::address::CircuitAddress;
use super::exchange;
use super::{Dial, Error, News, Order};

type Event = transport::TransportEvent<BoxFuture<'static, Result<Stream, Error>>, Error>;

/// The transport for circuits.
pub struct Transport {
    to_behaviour: mpsc::Sender<Order>,
    from_behaviour: mpsc::Receiver<News>,
    listeners: HashSet<ListenerId>,
    /// Orders that do not fit into the channel to the behaviour yet.
    orders: VecDeque<Order>,
    /// Listeners that were removed, but whose close is not reported yet.
    removed: VecDeque<ListenerId>,
}

impl Transport {
    pub(super) fn new(
        to_behaviour: mpsc::Sender<Order>,
        from_behaviour: mpsc::Receiver<News>,
    ) -> Self {
        Self {
            to_behaviour,
            from_behaviour,
            listeners: HashSet::new(),
            orders: VecDeque::new(),
            removed: VecDeque::new(),
        }
    }

    fn send_orders(&mut self, cx: &mut Context<'_>) {
        while !self.orders.is_empty() {
            match self.to_behaviour.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(order) = self.orders.pop_front() {
                        // The channel was just found to have room. A closed channel means that the behaviour is gone.
                        self.to_behaviour.start_send(order).ok();
                    }
                }
                // The behaviour is gone, and the swarm with it.
                Poll::Ready(Err(_)) => self.orders.clear(),
                Poll::Pending => return,
            }
        }
    }

    fn on_news(&mut self, news: News) -> Option<Event> {
        let (News::Address(listener_id, _)
        | News::AddressGone(listener_id, _)
        | News::Closed(listener_id, _)
        | News::Incoming {
            listener: listener_id,
            ..
        }) = news;
        if !self.listeners.contains(&listener_id) {
            return None;
        }
        Some(match news {
            News::Address(_, listen_addr) => Event::NewAddress {
                listener_id,
                listen_addr,
            },
            News::AddressGone(_, listen_addr) => Event::AddressExpired {
                listener_id,
                listen_addr,
            },
            News::Incoming {
                stream, at, from, ..
            } => Event::Incoming {
                listener_id,
                upgrade: exchange::accept(*stream).boxed(),
                local_addr: at,
                send_back_addr: Protocol::P2p(from).into(),
            },
            News::Closed(_, error) => {
                self.listeners.remove(&listener_id);
                Event::ListenerClosed {
                    listener_id,
                    reason: Err(error),
                }
            }
        })
    }
}

impl transport::Transport for Transport {
    type Output = Stream;
    type Error = Error;
    type ListenerUpgrade = BoxFuture<'static, Result<Stream, Error>>;
    type Dial = BoxFuture<'static, Result<Stream, Error>>;

    fn listen_on(
        &mut self,
        listener: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Error>> {
        let CircuitAddress { relay, way, .. } = CircuitAddress::parse(address)?;
        self.listeners.insert(listener);
        self.orders.push_back(Order::Listen {
            listener,
            relay,
            way,
        });
        Ok(())
    }

    fn remove_listener(&mut self, listener: ListenerId) -> bool {
        let removed = self.listeners.remove(&listener);
        if removed {
            self.orders.push_back(Order::Unlisten(listener));
            self.removed.push_back(listener);
        }
        removed
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Error>> {
        let CircuitAddress { relay, way, peer } = CircuitAddress::parse(address.clone())?;
        if opts.role.is_listener() {
            // Such dials are for hole punching, which makes no sense through a relay.
            return Err(TransportError::Other(Error::Address(address)));
        }
        let to = peer.ok_or(TransportError::Other(Error::Address(address)))?;
        let mut behaviour = self.to_behaviour.clone();
        let opened = async move {
            let (answer, opened) = oneshot::channel();
            let dial = Dial {
                relay,
                way,
                to,
                answer,
            };
            let sent = behaviour.send(Order::Dial(dial)).await;
            sent.map_err(|_| Error::NotReached)?;
            // The sender is dropped if the connection to the relay is lost.
            opened.await.unwrap_or(Err(Error::NotReached))
        };
        Ok(opened.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        self.send_orders(cx);
        if let Some(listener_id) = self.removed.pop_front() {
            let reason = Ok(());
            return Poll::Ready(Event::ListenerClosed {
                listener_id,
                reason,
            });
        }
        while let Poll::Ready(Some(news)) = self.from_behaviour.poll_next_unpin(cx) {
            if let Some(event) = self.on_news(news) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}
