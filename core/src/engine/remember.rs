//! Agreeing to remember each other: one side's part in it, during one transfer.
//!
//! The receiver says on each link that it would, once it is welcome there; a sharer that would too answers. What follows
//! from both halves counts when the transfer is complete: then each side tells its user, who keeps it. Where one side
//! does not want to, nothing is said and nothing is kept.

use super::Violation;
use super::context::Context;
use crate::PeerId;
use crate::message::{Message, SecretBytes};
use crate::pair::PairSecret;

/// This side's half, and what both make.
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

    /// What the other side is told: the same on every link of a transfer.
    pub(super) fn message(&self) -> Message {
        let half = self.half.clone();
        Message::Remember { half }
    }

    /// The other side's half came. Its last word counts: it may have been started again.
    pub(super) fn told(&mut self, us: &PeerId, peer: &PeerId, half: &SecretBytes) {
        self.secret = Some(PairSecret::join((us, &self.half.0), (peer, &half.0)));
    }

    /// What both sides have agreed on.
    pub(super) fn agreed(self) -> Option<PairSecret> {
        self.secret
    }
}

/// What was said of this on one link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Said {
    #[default]
    Nothing,
    /// The receiver's word; the sharer may answer it.
    Asked,
    Answered,
}

impl Said {
    /// The receiver says that it would remember.
    pub(super) fn ask(&mut self) -> Result<(), Violation> {
        match std::mem::replace(self, Self::Asked) {
            Self::Nothing => Ok(()),
            Self::Asked | Self::Answered => {
                Err(Violation::new("asks twice on one link to be remembered"))
            }
        }
    }

    /// The sharer answers.
    pub(super) fn answer(&mut self) -> Result<(), Violation> {
        match std::mem::replace(self, Self::Answered) {
            Self::Asked => Ok(()),
            Self::Nothing | Self::Answered => Err(Violation::new(
                "remembers who has not asked for it, or twice",
            )),
        }
    }
}
