//! The arriving manifest, and the user's answer to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{Kept, KeptSummary, LinkId, Violation};
use super::files::{place_of, summary};
use crate::limits::Limits;
use crate::manifest::{EntryKind, Manifest, SignedManifest};
use crate::message::Announced;
use crate::path::SafePath;

/// State of an offer.
#[derive(Default)]
pub(super) struct Offer {
    announced: Option<Announced>,
    encoded: Vec<u8>,
    /// The link on which a part was requested that has not arrived.
    asked: Option<LinkId>,
    signed: Option<SignedManifest>,
    /// The download's own folder, in which all files are stored.
    folder: Option<SafePath>,
    /// Indexes of the entries whose paths were inspected, in the order of the paths.
    looked_at: Vec<u32>,
    /// Entries whose name is taken. Set once the user is asked.
    taken: Option<Vec<u32>>,
    /// What an earlier run has left.
    kept: Kept,
}

impl Offer {
    /// Handles the sharer's announcement of its manifest. Returns false if another manifest is here already. The user
    /// may be looking at that one, and accepting it must not count for the new one.
    pub(super) fn announced(
        &mut self,
        announced: Announced,
        limits: &Limits,
    ) -> Result<bool, Violation> {
        let bytes = announced.len;
        if bytes > limits.manifest_bytes || bytes == 0 {
            return Err(Violation::new(format!("a manifest of {bytes} bytes")));
        }
        if self.announced.is_some_and(|before| before != announced) {
            if self.signed.is_some() {
                return Ok(false);
            }
            // The sharer was restarted with other files. The user has not seen the old manifest, so start again.
            *self = Self::default();
        }
        self.announced = Some(announced);
        Ok(true)
    }

    fn total(&self) -> Option<u64> {
        self.announced.map(|announced| announced.len)
    }

    /// True if the manifest is here.
    pub(super) fn is_here(&self) -> bool {
        self.signed.is_some()
    }

    /// Starts again with another peer: parts from different peers are not mixed.
    pub(super) fn begin_anew(&mut self) {
        if self.signed.is_none() {
            *self = Self::default();
        }
    }

    /// Handles a lost link: a request on it will not be answered.
    pub(super) fn lost(&mut self, link: LinkId) {
        if self.asked == Some(link) {
            self.asked = None;
        }
    }

    /// True if a part was requested on this link and has not arrived.
    pub(super) fn awaits(&self, link: LinkId) -> bool {
        self.asked == Some(link)
    }

    /// The offset to request now on this link, if any. Returns `None` until that request is answered.
    pub(super) fn wants(&mut self, link: LinkId) -> Option<u64> {
        let here = self.encoded.len() as u64;
        if self.asked.is_some()
            || self.signed.is_some()
            || self.total().is_none_or(|total| here >= total)
        {
            return None;
        }
        self.asked = Some(link);
        Some(here)
    }

    /// Handles a part. Returns the whole manifest once it is here.
    pub(super) fn part(
        &mut self,
        offset: u64,
        total: u64,
        part: &[u8],
    ) -> Result<Option<Bytes>, Violation> {
        let here = self.encoded.len() as u64;
        if self.asked.is_none() || offset != here || Some(total) != self.total() || part.is_empty()
        {
            return Err(Violation::new(
                "a part of a manifest that was not asked for",
            ));
        }
        if here + part.len() as u64 > total {
            return Err(Violation::new("a manifest longer than announced"));
        }
        self.asked = None;
        if self.encoded.capacity() < self.encoded.len() + part.len() {
            // Doubling the capacity, as a vector does, would take much memory for a large share.
            self.encoded
                .reserve_exact(part.len() + self.encoded.len() / 8);
        }
        self.encoded.extend_from_slice(part);
        let whole = self.encoded.len() as u64 == total;
        // Without its spare capacity.
        Ok(whole.then(|| std::mem::take(&mut self.encoded).into_boxed_slice().into()))
    }

    /// Handles the decoded manifest. Returns the paths to look for at the destination. `own_folder`: the download may
    /// have a folder of its own.
    pub(super) fn decoded(
        &mut self,
        signed: SignedManifest,
        own_folder: bool,
    ) -> Result<Vec<SafePath>, Violation> {
        if self.announced.map(|announced| announced.id) != Some(signed.id()) {
            return Err(Violation::new("another manifest than announced"));
        }
        let own = signed.manifest().own_folder();
        self.folder = own.filter(|_| own_folder);
        let mut paths = Vec::new();
        for (index, entry) in (0..).zip(signed.manifest().entries()) {
            if !matches!(entry.kind, EntryKind::Folder { .. }) {
                self.looked_at.push(index);
                paths.push(place_of(self.folder.as_ref(), &entry.path));
            }
        }
        self.signed = Some(signed);
        Ok(paths)
    }

    /// The download's own folder, in which all files are stored.
    pub(super) fn folder(&self) -> Option<&SafePath> {
        self.folder.as_ref()
    }

    /// Handles the inspection of the destination, where these paths exist. Returns what the user is shown.
    pub(super) fn inspected(
        &mut self,
        taken: &[usize],
        kept: Kept,
    ) -> Option<(Arc<Manifest>, Vec<u32>, KeptSummary)> {
        // Files published by an earlier run do not conflict.
        let ours: BTreeSet<u32> = kept.published.iter().copied().collect();
        let taken: Vec<u32> = taken
            .iter()
            .filter_map(|at| self.looked_at.get(*at))
            .filter(|entry| !ours.contains(entry))
            .copied()
            .collect();
        self.taken = Some(taken.clone());
        let signed = self.signed.as_ref()?;
        let summary = summary(signed.manifest(), &kept);
        self.kept = kept;
        Some((signed.manifest().clone(), taken, summary))
    }

    /// Handles the user's acceptance. Returns what was accepted, if the user was asked.
    pub(super) fn accept(&mut self) -> Option<(SignedManifest, Vec<u32>, Kept)> {
        let taken = self.taken.take()?;
        let signed = self.signed.take()?;
        Some((signed, taken, std::mem::take(&mut self.kept)))
    }
}
