//! Counts, across all runs of the device, the password proofs that downloads send for their short codes, and the wrong
//! guesses that others make at the device's own codes.

use handover_core::code::ShortCode;
use handover_core::engine::{DiskDone, DiskError, DiskWork, DownloadId};

use super::Registry;
use crate::store::{ShortCodes, StoreError};

/// The device's counter of password proofs, if it has one.
#[derive(Default)]
pub(super) struct Proofs {
    codes: Option<ShortCodes>,
    of: Registry<DownloadId, ShortCode>,
}

impl Proofs {
    pub(super) fn new(codes: Option<ShortCodes>) -> Self {
        let of = Registry::default();
        Self { codes, of }
    }

    /// Records the short code that a download was started with.
    pub(super) fn register(&self, download: DownloadId, code: ShortCode) {
        self.of.insert(download, code);
    }

    pub(super) fn forget(&self, download: DownloadId) {
        self.of.remove(download);
    }

    /// Updates the counts. For a proof, returns the number sent that have not succeeded, with this one; 0 where nothing
    /// is counted.
    pub(super) fn perform(&self, work: DiskWork) -> Result<DiskDone, DiskError> {
        match work {
            DiskWork::CountGuess { code, .. } => {
                let codes = self.codes.as_ref();
                codes.map_or(Ok(()), |codes| codes.guessed(&code).map_err(not_noted))?;
            }
            DiskWork::CountProof { download, most } => {
                let sent = self.note(download, |codes, code| codes.count(code, most))?;
                return Ok(DiskDone::ProofCounted { sent });
            }
            DiskWork::ProofNotSent { download } => self.note(download, ShortCodes::not_sent)?,
            DiskWork::ProofSucceeded { download, sharer } => {
                self.note(download, |codes, code| codes.succeeded(code, sharer))?;
            }
            other => unreachable!("{other:?} counts nothing"),
        }
        Ok(DiskDone::Ok)
    }

    fn note<T: Default>(
        &self,
        download: DownloadId,
        note: impl FnOnce(&ShortCodes, &ShortCode) -> Result<T, StoreError>,
    ) -> Result<T, DiskError> {
        let Some(codes) = &self.codes else {
            return Ok(T::default());
        };
        let code = self.of.get(download)?;
        note(codes, &code).map_err(not_noted)
    }
}

// By value, as `map_err` passes it.
#[allow(clippy::needless_pass_by_value)]
fn not_noted(error: StoreError) -> DiskError {
    tracing::warn!(%error, "how often a code was tried is not noted");
    DiskError::Other(error.to_string())
}
