//! A share's receivers, from joining to leaving.

use std::collections::BTreeMap;
use std::time::Instant;

use handover::store::{Direction, Ended, Meeting, Transfer};
use handover_core::PeerId;
use handover_core::engine::{Event, PathKind, ReceiverOutcome, SessionId};

use super::{Note, now};

/// State of a share in progress.
pub(super) struct Sent {
    name: String,
    files: u64,
    /// The receivers that are connected. The engine limits their number.
    receivers: BTreeMap<SessionId, Receiver>,
}

struct Receiver {
    peer: PeerId,
    name: String,
    path: PathKind,
    /// Start of the fetch; until then, the time of joining.
    since: Instant,
    fetching: bool,
}

impl Sent {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_string(),
            files: 0,
            receivers: BTreeMap::new(),
        }
    }

    /// True if the peer that an event blames is a current receiver, so it has proved that it knows the share's key.
    pub(super) fn has_met(&self, event: &Event) -> bool {
        let mut receivers = self.receivers.values();
        matches!(event, Event::PeerBlamed { peer, .. } if receivers.any(|known| known.peer == *peer))
    }

    pub(super) fn event(&mut self, event: &Event) -> Vec<Note> {
        match event {
            Event::ShareScanned { summary, .. } => self.files = summary.files,
            Event::ReceiverJoined {
                session,
                peer,
                name,
                path,
                ..
            } => {
                let receiver = Receiver {
                    peer: *peer,
                    name: name.clone(),
                    path: *path,
                    since: Instant::now(),
                    fetching: false,
                };
                self.receivers.insert(*session, receiver);
            }
            Event::ReceiverProgress { session, path, .. } => {
                if let Some(receiver) = self.receivers.get_mut(session) {
                    receiver.path = *path;
                    if !std::mem::replace(&mut receiver.fetching, true) {
                        receiver.since = Instant::now();
                    }
                }
            }
            Event::ReceiverLeft {
                session,
                outcome,
                sent,
                ..
            } => {
                if let Some(receiver) = self.receivers.remove(session) {
                    return self.left(receiver, outcome, *sent);
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn left(&self, receiver: Receiver, outcome: &ReceiverOutcome, sent: u64) -> Vec<Note> {
        let (ended, completed) = match outcome {
            ReceiverOutcome::Completed => (Ended::Completed, Some(true)),
            ReceiverOutcome::Declined => (Ended::Declined, None),
            ReceiverOutcome::Cancelled => (Ended::Cancelled, None),
            ReceiverOutcome::Lost => (Ended::Failed, Some(false)),
            ReceiverOutcome::Violation => (Ended::Violation, Some(false)),
        };
        // A receiver that only looked at the offer is not recorded, as it could push out more useful entries.
        if sent == 0 && matches!(ended, Ended::Cancelled | Ended::Failed) {
            return Vec::new();
        }
        let Receiver {
            peer,
            name,
            path,
            since,
            ..
        } = receiver;
        let meeting = Meeting {
            name: name.clone(),
            taken: sent,
            completed,
            ..Meeting::default()
        };
        let transfer = Transfer {
            at: now(),
            direction: Direction::Sent,
            name: self.name.clone(),
            files: self.files,
            bytes: sent,
            peer: Some(peer.to_string()),
            peer_name: name,
            ended,
            reason: String::new(),
            took: since.elapsed(),
            path: Some(path),
            folder: None,
        };
        vec![
            Note::Transfer(transfer),
            Note::Meeting(peer, meeting, false),
        ]
    }
}

#[cfg(test)]
mod tests {
    use handover_core::engine::ShareId;

    use super::*;

    /// Returns the notes about a receiver that joined and left in this way.
    fn notes(outcome: ReceiverOutcome, bytes: u64) -> Vec<Note> {
        let keys = handover_core::Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let (share, session) = (ShareId(1), SessionId(2));
        let mut sent = Sent::new("mods");
        sent.event(&Event::ReceiverJoined {
            share,
            session,
            peer: keys.public().to_peer_id(),
            name: "laptop".to_string(),
            path: PathKind::Lan,
        });
        sent.event(&Event::ReceiverLeft {
            share,
            session,
            outcome,
            sent: bytes,
        })
    }

    #[test]
    fn a_receiver_that_has_it_all_is_noted_as_that() {
        let notes = notes(ReceiverOutcome::Completed, 7);
        let [Note::Transfer(transfer), Note::Meeting(_, meeting, false)] = &notes[..] else {
            panic!("{notes:?}");
        };
        assert_eq!((transfer.ended, transfer.bytes), (Ended::Completed, 7));
        assert_eq!((meeting.completed, meeting.taken), (Some(true), 7));
    }

    #[test]
    fn who_only_looks_in_is_not_noted() {
        for outcome in [ReceiverOutcome::Cancelled, ReceiverOutcome::Lost] {
            assert_eq!(notes(outcome.clone(), 0).len(), 0);
            assert_eq!(notes(outcome, 1).len(), 2);
        }
        assert_eq!(notes(ReceiverOutcome::Declined, 0).len(), 2);
    }
}
