//! The receivers of one share, as displayed: which are connected, their progress, and how each left.

use std::collections::BTreeMap;

use super::super::context::Context;
use super::super::remember::Remembering;
use super::super::{Event, LinkId, PathKind, ReceiverOutcome, SessionId, ShareId, Violation};
use crate::PeerId;
use crate::message::{MAX_TEXT, SecretBytes};
use crate::time::Time;

/// One receiver, over any number of links.
struct Session {
    share: ShareId,
    peer: PeerId,
    /// The name it gives itself.
    name: String,
    /// Number that the receiver drew for this download.
    nonce: u64,
    links: Vec<LinkId>,
    sent: u64,
    /// When it counts as lost. Set only while it has no link.
    lost_at: Option<Time>,
    /// State of pairing, if both sides want to pair.
    remembering: Option<Remembering>,
}

/// All receivers of one share.
#[derive(Default)]
pub(super) struct Sessions {
    sessions: BTreeMap<SessionId, Session>,
    by_link: BTreeMap<LinkId, SessionId>,
}

impl Sessions {
    /// Handles a receiver's introduction on a new link: a new receiver, or another link of a known one.
    pub(super) fn hello(
        &mut self,
        cx: &mut Context,
        share: ShareId,
        link: LinkId,
        nonce: u64,
        name: String,
    ) -> Result<(), Violation> {
        if name.len() > MAX_TEXT {
            return Err(Violation::new("a name that is too long"));
        }
        if self.by_link.contains_key(&link) {
            return Err(Violation::new("a second greeting on one link"));
        }
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            return Ok(());
        };
        let known = self
            .sessions
            .iter_mut()
            .find(|(_, session)| session.peer == peer && session.nonce == nonce);
        if let Some((id, session)) = known {
            session.links.push(link);
            session.lost_at = None;
            self.by_link.insert(link, *id);
            return Ok(());
        }
        self.make_room(cx);
        let id = cx.fresh_session();
        self.by_link.insert(link, id);
        self.sessions.insert(
            id,
            Session {
                share,
                peer,
                name: name.clone(),
                nonce,
                links: vec![link],
                sent: 0,
                lost_at: None,
                remembering: None,
            },
        );
        cx.event(Event::ReceiverJoined {
            share,
            session: id,
            peer,
            name,
            path: path_of(cx, link),
        });
        Ok(())
    }

    /// Handles a receiver's request to pair. Answered if this side wants to pair too (`would`). The pairing takes
    /// effect once the receiver has everything.
    pub(super) fn remember(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        half: &SecretBytes,
        would: bool,
    ) -> Result<(), Violation> {
        let id = self.by_link.get(&link);
        let Some(session) = id.and_then(|id| self.sessions.get_mut(id)) else {
            return Err(Violation::new(
                "asks to be remembered before it says who it is",
            ));
        };
        if would {
            let ours = session.remembering.take();
            let mut ours = ours.unwrap_or_else(|| Remembering::new(cx));
            ours.told(&cx.peer, &session.peer, half);
            cx.send(link, ours.message());
            session.remembering = Some(ours);
        }
        Ok(())
    }

    /// Drops the receivers that were lost longest ago while there are too many. Those with links are bounded by the
    /// number of links.
    fn make_room(&mut self, cx: &mut Context) {
        while self.sessions.len() >= cx.limits.links {
            let longest_lost = self
                .sessions
                .iter()
                .filter(|(_, session)| session.lost_at.is_some());
            let Some((id, _)) = longest_lost.min_by_key(|(_, session)| session.lost_at) else {
                return;
            };
            let id = *id;
            self.finish(cx, id, ReceiverOutcome::Lost);
        }
    }

    /// Counts bytes of content sent on a link.
    pub(super) fn sent(&mut self, link: LinkId, bytes: u64) {
        if let Some(session) = self.of(link) {
            session.sent = session.sent.saturating_add(bytes);
        }
    }

    /// Reports the progress of a receiver.
    pub(super) fn have(&mut self, cx: &mut Context, link: LinkId, done: u64, total: u64) {
        let Some(id) = self.by_link.get(&link).copied() else {
            return;
        };
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        cx.event(Event::ReceiverProgress {
            share: session.share,
            session: id,
            path: path_of(cx, link),
            rtt: cx.links.get(link).and_then(|link| link.rtt),
            done,
            total,
        });
    }

    /// Handles the loss of a link. Its receiver may come back over another one within `limits.search`.
    pub(super) fn link_down(&mut self, cx: &mut Context, link: LinkId) {
        let now = cx.now;
        let search = cx.limits.search;
        if let Some(session) = self.of(link) {
            session.links.retain(|other| *other != link);
            if session.links.is_empty() {
                session.lost_at = Some(now + search);
            }
        }
        self.by_link.remove(&link);
    }

    /// Ends the session of the receiver on this link. Returns all its links.
    pub(super) fn end(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        outcome: ReceiverOutcome,
    ) -> Vec<LinkId> {
        match self.by_link.get(&link).copied() {
            Some(id) => self.finish(cx, id, outcome),
            None => vec![link],
        }
    }

    /// Ends all sessions, because the share ends.
    pub(super) fn end_all(&mut self, cx: &mut Context) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.finish(cx, id, ReceiverOutcome::Cancelled);
        }
    }

    fn finish(&mut self, cx: &mut Context, id: SessionId, outcome: ReceiverOutcome) -> Vec<LinkId> {
        let Some(session) = self.sessions.remove(&id) else {
            return Vec::new();
        };
        for link in &session.links {
            self.by_link.remove(link);
        }
        let agreed = session.remembering.and_then(Remembering::agreed);
        if let (ReceiverOutcome::Completed, Some(secret)) = (&outcome, agreed) {
            cx.event(Event::Paired {
                peer: session.peer,
                name: session.name,
                secret,
            });
        }
        cx.event(Event::ReceiverLeft {
            share: session.share,
            session: id,
            outcome,
            sent: session.sent,
        });
        session.links
    }

    pub(super) fn deadline(&self) -> Time {
        let lost = self.sessions.values().filter_map(|session| session.lost_at);
        lost.min().unwrap_or(Time::NEVER)
    }

    pub(super) fn tick(&mut self, cx: &mut Context) {
        let now = cx.now;
        let lost = |session: &Session| session.lost_at.is_some_and(|at| at <= now);
        let gone: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| lost(session))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.finish(cx, id, ReceiverOutcome::Lost);
        }
    }

    fn of(&mut self, link: LinkId) -> Option<&mut Session> {
        let id = self.by_link.get(&link)?;
        self.sessions.get_mut(id)
    }
}

fn path_of(cx: &Context, link: LinkId) -> PathKind {
    cx.links
        .get(link)
        .map_or(PathKind::Direct, |link| link.path)
}
