//! Pairing: one side's part in agreeing to remember each other, during one transfer.
//!
//! The receiver proposes it on each link after the sharer's welcome. A sharer that agrees answers. The pair secret made
//! from both halves takes effect when the transfer is complete: each side then reports it to its user, who keeps it. If
//! one side does not want to, nothing is sent and nothing is kept.

use super::Violation;
use super::context::Context;
use crate::PeerId;
use crate::message::{Message, SecretBytes};
use crate::pair::PairSecret;

/// This side's half, and the pair secret once both halves are known.
pub(super) struct Remembering {
    half: SecretBytes,
    secret: Option<PairSecret>,
}

impl Remembering {
    pub(super) fn new(cx: &mut Context) -> Self {
        Self {
            half: SecretBytes(cx.draw()),
            secret: None,
        }
    }

    /// The message with this side's half, which is the same on every link of a transfer.
    pub(super) fn message(&self) -> Message {
        let half = self.half.clone();
        Message::Remember { half }
    }

    /// Joins the peer's half with ours. The latest one counts, since the peer may have been restarted.
    pub(super) fn told(&mut self, us: &PeerId, peer: &PeerId, half: &SecretBytes) {
        self.secret = Some(PairSecret::join((us, &self.half.0), (peer, &half.0)));
    }

    /// Returns the pair secret, if both sides agreed.
    pub(super) fn agreed(self) -> Option<PairSecret> {
        self.secret
    }
}

/// Pairing messages received or sent on one link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Said {
    #[default]
    Nothing,
    /// The receiver has asked. The sharer may answer.
    Asked,
    Answered,
}

impl Said {
    /// Notes that the receiver asks. Fails if it has asked before.
    pub(super) fn ask(&mut self) -> Result<(), Violation> {
        match std::mem::replace(self, Self::Asked) {
            Self::Nothing => Ok(()),
            Self::Asked | Self::Answered => {
                Err(Violation::new("asks twice on one link to be remembered"))
            }
        }
    }

    /// Notes that the sharer answers. Fails unless the receiver has asked and has no answer yet.
    pub(super) fn answer(&mut self) -> Result<(), Violation> {
        match std::mem::replace(self, Self::Answered) {
            Self::Asked => Ok(()),
            Self::Nothing | Self::Answered => Err(Violation::new(
                "remembers who has not asked for it, or twice",
            )),
        }
    }
}
