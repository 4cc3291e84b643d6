//! Handshakes: how a link gets its keys from a share's secret or from a short code.
//!
//! With the secret, each side sends one frame. With a short code, each side first sends its PAKE point
//! ([`crate::pake`]). The points turn the words into a shared key, which then takes the place of the secret in the
//! handshake. The sharer counts failed password proofs, since each is one guess at the words.

use super::context::{Context, Dialled};
use super::download::{Download, Finding};
use super::links::{Origin, Role};
use super::share::Share;
use super::{
    Allowance, DialId, DiskDone, DownloadId, Engine, FetchKey, LinkId, Output, PathKind, ShareId,
    VERSION, Violation,
};
use crate::code::ShortCode;
use crate::frame::{self, LinkKeys};
use crate::handshake::{self, Initiator};
use crate::limits::{MAX_PAYLOAD, MAX_SEALED_FRAME};
use crate::message::{
    self, HandshakeReply, HandshakeRequest, Opening, Proof, Refusal, ShortCodeRequest,
};
use crate::pake::{Pake, PakeKey};
use crate::secret::ShareSecret;
use crate::{Multiaddr, PeerId};

impl Engine {
    /// Handles an incoming link. Closes it if nothing is offered here or the link limits are reached. Otherwise awaits
    /// the handshake request.
    pub(super) fn on_link_in(
        &mut self,
        (link, peer, path): (LinkId, PeerId, PathKind),
        remote: &Multiaddr,
    ) {
        let serves = self.serves_anything();
        let cx = &mut self.cx;
        let origin = Origin::of(remote, path);
        if !serves || !cx.links.has_place(&origin, &cx.limits) {
            return cx.push(Output::Close { link });
        }
        cx.links
            .insert(link, peer, path, Role::AwaitingRequest, cx.now, &cx.limits);
        cx.links.comes_from(link, origin);
        cx.push(Output::AwaitPlain { link });
    }

    /// Handles a link that one of our dials has opened, and sends the handshake request.
    pub(super) fn on_link_out(
        &mut self,
        (link, peer, path): (LinkId, PeerId, PathKind),
        dial: DialId,
        (relay, allowance): (Option<PeerId>, Allowance),
    ) {
        let cx = &mut self.cx;
        let Some(Dialled { download: id, .. }) = cx.dial_done(dial) else {
            return cx.push(Output::Close { link });
        };
        if !self.may_handshake(id, peer, dial) {
            self.cx.push(Output::Close { link });
            return self.dial_failed(id, dial, "this peer was tried with the code already");
        }
        let cx = &mut self.cx;
        let wanted = self.downloads.get(&id);
        let wanted = wanted.filter(|download| download.expects(cx, dial, peer, path));
        let Some(download) = wanted else {
            cx.push(Output::Close { link });
            return self.dial_failed(
                id,
                dial,
                "another peer than the one that was called answered",
            );
        };
        let (role, knock) = match &download.order.source.key {
            FetchKey::Secret(secret) => {
                let (tag, seed) = (secret.tag(), cx.draw());
                let (initiator, noise) = Initiator::new(&secret.psk(), &tag, &cx.peer, &peer, seed);
                let knock = message::encode(&HandshakeRequest {
                    version: VERSION,
                    name: handshake::name_in_request(&tag, &cx.peer, &peer, &noise),
                    noise,
                });
                (Role::AwaitingReply(id, dial, Box::new(initiator)), knock)
            }
            FetchKey::Short(code) => {
                let seed = cx.draw();
                let (pake, point) = Pake::receiver(code, &cx.peer, &peer, seed);
                let knock = message::encode(&ShortCodeRequest {
                    version: VERSION,
                    number: code.number(),
                    point,
                });
                (Role::AwaitingPoint(id, dial, Box::new(pake)), knock)
            }
        };
        cx.links.insert(link, peer, path, role, cx.now, &cx.limits);
        if let Some(relay) = relay {
            cx.leads_through(link, relay, allowance);
        }
        cx.send_plain(link, knock);
        cx.push(Output::AwaitPlain { link });
    }

    /// True if a download may start a handshake with this peer. With a short code, only one handshake at a time may run
    /// with a peer, and only while a password proof may be sent to it.
    fn may_handshake(&self, id: DownloadId, peer: PeerId, dial: DialId) -> bool {
        let short = |download: &&Download| matches!(&download.order.source.key, FetchKey::Short(_));
        let Some(download) = self.downloads.get(&id).filter(short) else {
            return true;
        };
        !self.cx.links.has_handshake_with(id, peer) && download.finding.may_prove(peer, dial)
    }

    pub(super) fn dial_failed(&mut self, download: DownloadId, dial: DialId, reason: &str) {
        if let Some(download) = self.downloads.get_mut(&download) {
            download.dial_failed(&mut self.cx, dial, reason.to_string());
        }
    }

    /// Handles an unsealed frame: a handshake request, or the reply to ours.
    pub(super) fn on_plain(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(state) = self.cx.links.get_mut(link) else {
            return;
        };
        state.heard(self.cx.now);
        state.passed(frame::plain_len(bytes.len()));
        let peer = state.peer;
        match std::mem::replace(&mut state.role, Role::AwaitingRequest) {
            Role::AwaitingRequest => self.on_request(link, bytes),
            Role::AwaitingProof(share, key) => self.on_proof(link, share, &key, bytes),
            Role::AwaitingPoint(download, dial, pake) => {
                self.on_point(link, download, dial, *pake, bytes);
            }
            Role::CountingProof(download, dial, _) => {
                self.cx.close(link);
                self.download(download, |download, _| {
                    download.finding.proofs.answered(peer)
                });
                self.dial_failed(download, dial, "the other side said what was not due");
            }
            Role::AwaitingReply(download, dial, initiator) => {
                self.on_reply(link, download, dial, *initiator, bytes);
            }
            keyed @ (Role::Serving(_) | Role::Fetching(_) | Role::Seeding(_)) => {
                state.role = keyed;
                self.blame(link, &Violation::new("an unsealed frame on a keyed link"));
            }
        }
    }

    /// Handles the handshake request of an incoming link.
    fn on_request(&mut self, link: LinkId, bytes: &[u8]) {
        let outcome = match message::decode(bytes) {
            Ok(Opening::Secret(knock)) => self.admit(link, &knock),
            Ok(Opening::Short(knock)) => self.on_short_code_request(link, &knock),
            Err(_) => Err(Refusal::NoSuchShare),
        };
        if let Err(refusal) = outcome {
            self.refuse(link, refusal);
        }
    }

    fn send_reply(&mut self, link: LinkId, reply: &HandshakeReply) {
        self.cx.send_plain(link, message::encode(reply));
    }

    fn refuse(&mut self, link: LinkId, refusal: Refusal) {
        self.send_reply(link, &HandshakeReply::Refused(refusal));
        self.cx.close(link);
    }

    /// Accepts a handshake request for one of our shares. A wrong key gets the same refusal as an unknown share.
    fn admit(&mut self, link: LinkId, knock: &HandshakeRequest) -> Result<(), Refusal> {
        check_version(knock.version)?;
        let (peer, path) = end_of(&self.cx, link)?;
        let open = |share: &Share| {
            let is_named = || is_named(share.secret(), &self.cx.peer, &peer, knock);
            !share.is_over() && share.takes(peer, path) && is_named()
        };
        let found = self.shares.iter().find(|(_, share)| open(share));
        let Some((id, share)) = found else {
            return self.admit_to_seed(link, knock);
        };
        let (id, psk, tag) = (*id, share.secret().psk(), share.secret().tag());
        let (reply, keys) = respond(&mut self.cx, link, &psk, &tag, &knock.noise)?;
        self.let_in(link, id, false, reply, keys);
        Ok(())
    }

    /// Accepts a handshake request for one of our seeding downloads.
    fn admit_to_seed(&mut self, link: LinkId, knock: &HandshakeRequest) -> Result<(), Refusal> {
        let (peer, path) = end_of(&self.cx, link)?;
        let opens = |(id, download): (&DownloadId, &Download)| match &download.order.source.key {
            FetchKey::Secret(secret) if download.serves(peer, path) => {
                let is_named = is_named(secret, &self.cx.peer, &peer, knock);
                is_named.then(|| (*id, secret.clone(), download.has_room()))
            }
            _ => None,
        };
        let found = self.downloads.iter().find_map(opens);
        let (id, secret, has_room) = found.ok_or(Refusal::NoSuchShare)?;
        let (psk, tag) = (secret.psk(), secret.tag());
        let (reply, keys) = respond(&mut self.cx, link, &psk, &tag, &knock.noise)?;
        if !has_room {
            return Err(Refusal::Busy);
        }
        self.key(link, Role::Seeding(id), reply, keys);
        self.download(id, |download, cx| download.seed_up(cx, link));
        Ok(())
    }

    /// True if there is a share, or a download that can serve one more link.
    fn serves_anything(&self) -> bool {
        !self.shares.is_empty() || self.downloads.values().any(Download::has_room)
    }

    /// Handles a handshake request with a short code: sends our PAKE point and awaits the password proof.
    fn on_short_code_request(
        &mut self,
        link: LinkId,
        knock: &ShortCodeRequest,
    ) -> Result<(), Refusal> {
        check_version(knock.version)?;
        let (peer, path) = end_of(&self.cx, link)?;
        let open = |share: &Share| {
            let number = share.short().map(ShortCode::number);
            !share.is_over() && share.takes(peer, path) && number == Some(knock.number)
        };
        let found = self.shares.iter().find(|(_, share)| open(share));
        let (id, share) = found.ok_or(Refusal::NoSuchShare)?;
        let code = share.short().ok_or(Refusal::NoSuchShare)?;
        let seed = self.cx.draw();
        let (pake, point) = Pake::sharer(code, &peer, &self.cx.peer, seed);
        let key = pake
            .finish(&knock.point)
            .map_err(|_| Refusal::NoSuchShare)?;
        let id = *id;
        if let Some(state) = self.cx.links.get_mut(link) {
            state.role = Role::AwaitingProof(id, key);
        }
        self.send_reply(link, &HandshakeReply::Point(point));
        self.cx.push(Output::AwaitPlain { link });
        Ok(())
    }

    /// Checks a password proof of a short code. A failed proof counts as a guess.
    fn on_proof(&mut self, link: LinkId, id: ShareId, key: &PakeKey, bytes: &[u8]) {
        // This also covers proofs in parallel: those that arrive after the code is dead are refused unchecked.
        let share = self.shares.get_mut(&id);
        let Some(code) = share.as_ref().and_then(|share| share.short().cloned()) else {
            return self.refuse(link, Refusal::NoSuchShare);
        };
        let tag = short_tag(code.number());
        let noise = message::decode::<Proof>(bytes).map(|proof| proof.noise);
        let noise = noise.unwrap_or_default();
        if let Ok((reply, keys)) = respond(&mut self.cx, link, key, &tag, &noise) {
            return self.let_in(link, id, true, reply, keys);
        }
        if let Some(share) = self.shares.get_mut(&id) {
            share.guessed_wrong(&mut self.cx, link, code);
        }
    }

    /// Refuses a wrong guess after it has been counted.
    pub(super) fn on_guess_counted(&mut self, link: LinkId) {
        if self.cx.links.get(link).is_some() {
            self.refuse(link, Refusal::WrongWords);
        }
    }

    /// Keys a link that may fetch a share.
    fn let_in(&mut self, link: LinkId, id: ShareId, short: bool, reply: Vec<u8>, keys: LinkKeys) {
        self.key(link, Role::Serving(id), reply, keys);
        if let Some(share) = self.shares.get_mut(&id) {
            share.link_up(&mut self.cx, link, short);
        }
    }

    /// Sends the handshake reply and sets the keys of an incoming link.
    fn key(&mut self, link: LinkId, role: Role, reply: Vec<u8>, keys: LinkKeys) {
        self.send_reply(link, &HandshakeReply::Noise(reply));
        let largest = MAX_SEALED_FRAME - MAX_PAYLOAD;
        self.cx.push(Output::Keys {
            link,
            keys,
            largest,
        });
        if let Some(state) = self.cx.links.get_mut(link) {
            state.role = role;
        }
    }

    /// Handles the sharer's PAKE point: derives the key from the words and prepares the password proof.
    fn on_point(&mut self, link: LinkId, id: DownloadId, dial: DialId, pake: Pake, bytes: &[u8]) {
        let key = match message::decode(bytes) {
            Ok(HandshakeReply::Point(point)) => pake.finish(&point).ok(),
            Ok(HandshakeReply::Refused(refusal)) => {
                return self.on_refused(link, id, dial, refusal);
            }
            _ => None,
        };
        let download = self.downloads.get(&id);
        let code = download.and_then(|download| match &download.order.source.key {
            FetchKey::Short(code) => Some(code),
            // Another link was faster and has delivered the secret.
            FetchKey::Secret(_) => None,
        });
        let (Some(key), Some(code), Ok((peer, _))) = (key, code, end_of(&self.cx, link)) else {
            self.cx.close(link);
            return self.dial_failed(id, dial, "the other side did not say what was due");
        };
        let (tag, may) = (
            short_tag(code.number()),
            download.is_some_and(|it| it.finding.may_prove(peer, dial)),
        );
        if !may {
            self.cx.close(link);
            return self.dial_failed(id, dial, "this peer was tried with the code already");
        }
        let seed = self.cx.draw();
        let (initiator, noise) = Initiator::new(&key, &tag, &self.cx.peer, &peer, seed);
        let proof = message::encode(&Proof { noise });
        if let Some(state) = self.cx.links.get_mut(link) {
            state.role = Role::CountingProof(id, dial, Box::new((initiator, proof)));
        }
        self.download(id, |download, cx| {
            download.finding.prove(cx, id, (link, peer, dial))
        });
    }

    /// Sends the password proof that has just been counted, unless the limit is exceeded or the link no longer waits
    /// for it. A proof that could not be counted on disk still counts in this run.
    pub(super) fn on_proof_counted(&mut self, id: DownloadId, link: LinkId, done: &DiskDone) {
        let sent = match done {
            DiskDone::ProofCounted { sent } => *sent,
            _ => 0,
        };
        let is_noted = (1..=self.cx.limits.guesses).contains(&sent);
        let download = self.downloads.get_mut(&id);
        let may = download.is_some_and(|download| download.finding.proofs.counted(sent));
        let state = self.cx.links.get(link);
        let waits = state.and_then(|state| match state.role {
            Role::CountingProof(_, dial, _) => Some((state.peer, dial)),
            _ => None,
        });
        if may && waits.is_some() {
            return self.send_proof(link);
        }
        if is_noted {
            Finding::not_proved(&mut self.cx, id);
        }
        if let Some((peer, dial)) = waits {
            self.cx.close(link);
            self.download(id, |download, _| download.finding.proofs.broke(peer));
            self.dial_failed(id, dial, "no more proofs of this code may be sent");
        }
    }

    fn send_proof(&mut self, link: LinkId) {
        let Some(state) = self.cx.links.get_mut(link) else {
            return;
        };
        match std::mem::replace(&mut state.role, Role::AwaitingRequest) {
            Role::CountingProof(id, dial, noted) => {
                let (initiator, proof) = *noted;
                state.role = Role::AwaitingReply(id, dial, Box::new(initiator));
                self.cx.send_plain(link, proof);
                self.cx.push(Output::AwaitPlain { link });
            }
            other => state.role = other,
        }
    }

    /// Handles the handshake reply.
    fn on_reply(
        &mut self,
        link: LinkId,
        id: DownloadId,
        dial: DialId,
        initiator: Initiator,
        bytes: &[u8],
    ) {
        let keys = match message::decode(bytes) {
            Ok(HandshakeReply::Noise(noise)) => initiator.finish(&noise).ok(),
            Ok(HandshakeReply::Refused(refusal)) => {
                return self.on_refused(link, id, dial, refusal);
            }
            _ => None,
        };
        let Ok((peer, path)) = end_of(&self.cx, link) else {
            return;
        };
        let Some(keys) = keys else {
            self.cx.close(link);
            self.download(id, |download, _| download.finding.proofs.answered(peer));
            return self.dial_failed(
                id,
                dial,
                "the other side does not know the key of this code",
            );
        };
        if let Some(state) = self.cx.links.get_mut(link) {
            state.role = Role::Fetching(id);
        }
        self.download(id, |download, cx| download.finding.proved(cx, id, peer));
        let wanted = self
            .downloads
            .get(&id)
            .is_some_and(|download| download.expects(&self.cx, dial, peer, path));
        if !wanted {
            self.cx.close(link);
            return self.dial_failed(id, dial, "it is not needed any more");
        }
        let largest = MAX_SEALED_FRAME;
        self.cx.push(Output::Keys {
            link,
            keys,
            largest,
        });
        self.download(id, |download, cx| download.link_up(cx, link, peer, dial));
    }

    fn on_refused(&mut self, link: LinkId, id: DownloadId, dial: DialId, refusal: Refusal) {
        let Ok((peer, _)) = end_of(&self.cx, link) else {
            return;
        };
        self.cx.close(link);
        self.download(id, |download, cx| download.refused(cx, peer, dial, refusal));
    }
}

/// True if this peer's handshake request names the share with this secret.
fn is_named(secret: &ShareSecret, local: &PeerId, peer: &PeerId, knock: &HandshakeRequest) -> bool {
    handshake::name_in_request(&secret.tag(), peer, local, &knock.noise) == knock.name
}

fn check_version(version: u32) -> Result<(), Refusal> {
    if version == VERSION {
        Ok(())
    } else {
        Err(Refusal::Version)
    }
}

/// Returns the peer and the path of a link.
fn end_of(cx: &Context, link: LinkId) -> Result<(PeerId, PathKind), Refusal> {
    let link = cx.links.get(link).ok_or(Refusal::Busy)?;
    Ok((link.peer, link.path))
}

fn respond(
    cx: &mut Context,
    link: LinkId,
    psk: &[u8; 32],
    tag: &[u8; 16],
    noise: &[u8],
) -> Result<(Vec<u8>, LinkKeys), Refusal> {
    let ((peer, _), seed) = (end_of(cx, link)?, cx.draw());
    handshake::respond(psk, tag, &cx.peer, &peer, noise, seed).map_err(|_| Refusal::NoSuchShare)
}

/// Takes the place of a share's tag in the handshake of a short code: the code's number.
fn short_tag(number: u32) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}
