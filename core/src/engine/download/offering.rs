//! From the sharer's welcome to the user's answer: the manifest comes, the destination is looked at, and what is accepted
//! becomes a transfer.

use super::super::context::{Context, DownloadJob, JobOwner};
use super::super::{
    AcceptTerms, DiskDone, DiskWork, DownloadError, Event, FetchKey, Kept, LinkId, Origin,
    SinkKind, Violation,
};
use super::files::Files;
use super::journal::Journal;
use super::transfer::Transfer;
use super::{Download, Stage};
use crate::code::{MAX_ADDRESSES, Ticket};
use crate::manifest::SignedManifest;
use crate::message::Announced;
use crate::secret::ShareCodeLabel;

impl Download {
    pub(super) fn welcomed(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        manifest: Option<Announced>,
    ) -> Result<(), Violation> {
        let Some(fetching) = self.links.get_mut(link) else {
            return Ok(());
        };
        if fetching.manifest.is_some() {
            return Err(Violation::new("a second welcome on one link"));
        }
        let Some(announced) = manifest else {
            cx.event(Event::SharerPreparing {
                download: self.order.id,
            });
            return Ok(());
        };
        fetching.manifest = Some(announced.len);
        fetching.flow.start(&cx.limits, fetching.path, cx.now);
        self.release_deputy(cx);
        if let Some(ours) = &self.remembering {
            self.links.offer_to_remember(cx, link, ours)?;
        }
        self.choose(cx);
        self.circuit_welcomed(cx, link);
        self.tell_sharer_paused(cx);
        let same = match &mut self.stage {
            Stage::Offer(offer) => offer.announced(announced, &cx.limits)?,
            Stage::Transfer(transfer) => transfer.signed.id() == announced.id,
            Stage::Seeding(_) | Stage::Ending => true,
        };
        if !same {
            self.fail(cx, DownloadError::OtherFiles);
        }
        Ok(())
    }

    pub(super) fn manifest_part(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        (offset, total): (u64, u64),
        part: &[u8],
    ) -> Result<(), Violation> {
        let Stage::Offer(offer) = &mut self.stage else {
            return Ok(()); // A late answer, asked for again over another link.
        };
        let encoded = offer.part(offset, total, part)?;
        if let Some(state) = cx.links.get_mut(link) {
            state.progressed(&cx.limits);
        }
        // As long as somebody else tells what the sharer shares, the sharer is looked for.
        let by_sharer = self.links.get(link).is_none_or(|link| link.mate.is_none());
        if by_sharer {
            self.finding.end(cx);
        }
        let Some(encoded) = encoded else {
            return Ok(());
        };
        let Some(peer) = self.order.source.peer else {
            return Ok(());
        };
        let signed = SignedManifest::decode(encoded, &peer, &cx.limits)
            .map_err(|error| Violation::new(format!("its manifest is refused: {error}")))?;
        let origin = Origin::of(&signed);
        let own_folder = self.order.options.own_folder && self.order.sink == SinkKind::Folder;
        let paths = offer.decoded(signed, own_folder)?;
        self.release_deputy(cx);
        if self.order.sink == SinkKind::Pipe {
            self.offered(
                cx,
                DiskDone::Inspected {
                    taken: Vec::new(),
                    free: None,
                    kept: Kept::default(),
                },
            );
            return Ok(());
        }
        cx.disk(
            JobOwner::Download(self.order.id, DownloadJob::Inspect),
            DiskWork::Inspect {
                download: self.order.id,
                paths,
                origin,
            },
        );
        Ok(())
    }

    /// The folder was looked at: the user is asked.
    pub(super) fn offered(&mut self, cx: &mut Context, done: DiskDone) {
        let Stage::Offer(offer) = &mut self.stage else {
            return;
        };
        match done {
            DiskDone::Inspected { taken, free, kept } => {
                if let Some((manifest, taken, kept)) = offer.inspected(&taken, kept) {
                    cx.event(Event::Offer {
                        download: self.order.id,
                        manifest,
                        folder: offer.folder().cloned(),
                        taken,
                        free,
                        kept,
                    });
                }
            }
            DiskDone::Failed(error) => self.fail(cx, error.into()),
            _ => {}
        }
    }

    /// The user takes the offer.
    pub(in super::super) fn accept(&mut self, cx: &mut Context, terms: AcceptTerms) {
        let Stage::Offer(offer) = &mut self.stage else {
            return;
        };
        let folder = offer.folder().cloned();
        let Some((signed, taken, kept)) = offer.accept() else {
            return;
        };
        let resumes = !kept.is_empty();
        let mut files = Files::new(signed.manifest().clone(), folder, terms, &taken);
        let earlier = files.keep(kept);
        for index in files.skipped() {
            if let Some(path) = files.place(index) {
                cx.event(Event::FileSkipped {
                    download: self.order.id,
                    path,
                });
            }
        }
        if self.order.sink == SinkKind::Pipe && files.count.wanted != 1 {
            let reason = format!(
                "a pipe takes one file, and this is {}; select one, or receive into a folder",
                files.count.wanted
            );
            return self.fail(cx, DownloadError::Unsuitable(reason));
        }
        let origin = Origin::of(&signed);
        let sized = self.order.sink == SinkKind::Folder && !signed.manifest().summary().stream;
        let journal = Journal::new(sized, resumes, &files, &cx.limits, cx.now);
        let parts = (files, earlier);
        let transfer = Transfer::new(
            self.order.id,
            signed,
            parts,
            journal,
            self.order.sink,
            cx.now,
        );
        self.stage = Stage::Transfer(Box::new(transfer));
        self.join_swarm(cx);
        match self.order.sink {
            SinkKind::Pipe => self.pump(cx),
            SinkKind::Folder => cx.disk(
                JobOwner::Download(self.order.id, DownloadJob::Stage),
                DiskWork::Stage {
                    download: self.order.id,
                    origin,
                },
            ),
        }
    }

    /// Says by which ticket another run comes to the same.
    pub(super) fn tell_resumable(&self, cx: &mut Context) {
        let Stage::Transfer(transfer) = &self.stage else {
            return;
        };
        let (FetchKey::Secret(secret), Some(peer)) =
            (&self.order.source.key, self.order.source.peer)
        else {
            return;
        };
        if self.order.sink == SinkKind::Pipe {
            return;
        }
        let known = self
            .order
            .source
            .addresses
            .iter()
            .chain(&self.finding.known);
        let ticket = Ticket {
            peer,
            addresses: known.take(MAX_ADDRESSES).cloned().collect(),
            secret: secret.clone(),
            share_code: ShareCodeLabel::of(secret),
        };
        cx.event(Event::Resumable {
            download: self.order.id,
            ticket,
            origin: Origin::of(&transfer.signed),
        });
    }
}
