//! The questions on one connection, each on its own stream

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::AsyncWriteExt;
use futures_bounded::{Delay, FuturesTupleSet};
use handover_core::dial_back::Answer;
use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol,
};
use libp2p::{Multiaddr, PeerId};

use super::PROTOCOL;
use super::messages::Message;
use crate::libp2p::delimited::{WireError, read, write};

/// Timeout for an answer. go-libp2p gives its dials 15 seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of questions at once on one connection. Any further one ends without an answer.
const QUESTIONS: usize = 2;

/// A request to be dialled at this address.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(super) local: PeerId,
    pub(super) address: Multiaddr,
}

/// The answer about this address.
#[derive(Debug)]
pub(crate) struct Told {
    pub(super) address: Multiaddr,
    pub(super) answer: Answer,
}

/// The streams of one connection. It accepts none: this peer dials no peer back by this protocol.
pub(crate) struct Handler {
    to_open: VecDeque<Question>,
    told: VecDeque<Told>,
    asked: FuturesTupleSet<Result<Message, WireError>, Multiaddr>,
}

impl Handler {
    pub(super) fn new() -> Self {
        Self {
            to_open: VecDeque::new(),
            told: VecDeque::new(),
            asked: FuturesTupleSet::new(|| Delay::futures_timer(ANSWER_TIMEOUT), QUESTIONS),
        }
    }

    fn on_opened(&mut self, question: Question, stream: Stream) {
        let address = question.address.clone();
        if let Err((_, address)) = self.asked.try_push(ask(stream, question), address) {
            self.say_nothing(address);
        }
    }

    fn say_nothing(&mut self, address: Multiaddr) {
        let answer = Answer::Nothing;
        self.told.push_back(Told { address, answer });
    }
}

async fn ask(mut stream: Stream, question: Question) -> Result<Message, WireError> {
    let message = Message::asking(question.local, &question.address);
    write(&mut stream, &message).await?;
    let answer = read(&mut stream).await?;
    // The answer is complete, however the stream ends.
    stream.close().await.ok();
    Ok(answer)
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Question;
    type ToBehaviour = Told;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Question;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, question: Question) {
        self.to_open.push_back(question);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Question>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.on_opened(info, protocol),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, .. }) => {
                self.say_nothing(info.address);
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Question, Told>> {
        if let Some(question) = self.to_open.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), question),
            });
        }
        if let Some(told) = self.told.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(told));
        }
        self.asked.poll_unpin(cx).map(|(came, address)| {
            let answer = match came {
                Ok(Ok(message)) => message.answer(),
                Ok(Err(_)) | Err(_) => Answer::Nothing,
            };
            ConnectionHandlerEvent::NotifyBehaviour(Told { address, answer })
        })
    }
}
