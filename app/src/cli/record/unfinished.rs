//! What another run needs to continue this one if it ends unexpectedly: stored at the beginning, removed at an orderly
//! end.

use handover::store::{Begun, OpenShare, Unfinished};
use handover_core::PeerId;
use handover_core::code::ShortCode;
use handover_core::engine::{DownloadOutcome, Event, OnConflict, ReceiverOutcome};

use super::{Note, now};
use crate::cli::unfinished::{Claimed, listing};

/// A download that another run can continue.
pub(in crate::cli) struct Download {
    begun: Begun,
    folder: String,
    on_conflict: OnConflict,
    executables: bool,
    name: String,
    bytes: u64,
    noted: Option<String>,
}

impl Download {
    pub(in crate::cli) fn new(begun: Begun, folder: String) -> Self {
        Self {
            begun,
            folder,
            on_conflict: OnConflict::Rename,
            executables: false,
            name: String::new(),
            bytes: 0,
            noted: None,
        }
    }

    /// Sets the terms on which the offer is accepted.
    pub(super) fn accepted(&mut self, on_conflict: OnConflict, executables: bool) {
        self.on_conflict = on_conflict;
        self.executables = executables;
    }

    pub(super) fn event(&mut self, event: &Event) -> Option<Note> {
        match event {
            Event::Offer { manifest, .. } => {
                manifest.name().clone_into(&mut self.name);
                self.bytes = manifest.summary().bytes;
                None
            }
            Event::Resumable { ticket, origin, .. } => {
                let unfinished = Unfinished {
                    begun: self.begun.clone(),
                    name: self.name.clone(),
                    folder: self.folder.clone(),
                    manifest: origin.manifest.to_string(),
                    ticket: ticket.encode(),
                    bytes: self.bytes,
                    on_conflict: self.on_conflict,
                    executables: self.executables,
                };
                self.noted = Some(unfinished.key());
                Some(Note::Begun(unfinished))
            }
            Event::DownloadEnded { outcome, .. } => match outcome {
                DownloadOutcome::Suspended | DownloadOutcome::Failed(_) => None,
                _ => self.noted.take().map(Note::Over),
            },
            _ => None,
        }
    }
}

/// A share that is to be served again under the same code.
pub(in crate::cli) struct Share {
    key: String,
    share: OpenShare,
}

impl Share {
    pub(in crate::cli) fn new(
        claimed: &Claimed,
        name: &str,
        peer: PeerId,
        expires: Option<std::time::Duration>,
    ) -> Self {
        let before = claimed.before.as_ref();
        Self {
            key: claimed.key.clone(),
            share: OpenShare {
                begun: claimed.begun.clone(),
                name: name.to_owned(),
                peer: peer.to_string(),
                secret: [0; 32],
                short: None,
                wrong: before.map_or(0, |before| before.wrong),
                completed: before.map_or(0, |before| before.completed),
                expires: expires.map(|after| now() + after.as_secs()),
                listing: before.map_or(Vec::new(), |before| before.listing.clone()),
            },
        }
    }

    pub(super) fn event(&mut self, event: &Event) -> Option<Note> {
        match event {
            Event::ShareOpen { ticket, short, .. } => {
                self.share.secret = *ticket.secret.as_bytes();
                self.share.short = short.as_ref().map(ShortCode::encode);
            }
            Event::ShareScanned { manifest, .. } => self.share.listing = listing(manifest),
            Event::WrongWords { .. } => self.share.wrong += 1,
            Event::ReceiverLeft {
                outcome: ReceiverOutcome::Completed,
                ..
            } => self.share.completed += 1,
            Event::ShareEnded { .. } => return Some(Note::Closed(self.key.clone())),
            _ => return None,
        }
        // Until the code is known, there is nothing to serve again.
        let opened = self.share.secret != [0; 32];
        opened.then(|| Note::Open(self.key.clone(), Box::new(self.share.clone())))
    }
}
