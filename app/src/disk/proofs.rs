//! Counts, for the device, how often downloads have proved the words of their short codes.

use handover_core::PeerId;
use handover_core::code::ShortCode;
use handover_core::engine::{DiskError, DownloadId};

use super::Registry;
use crate::store::{ShortCodes, StoreError};

/// The device's count of proofs, if it has one.
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

    /// This download begins with this code.
    pub(super) fn register(&self, download: DownloadId, code: ShortCode) {
        self.of.insert(download, code);
    }

    pub(super) fn forget(&self, download: DownloadId) {
        self.of.remove(download);
    }

    /// Counts one more; how many that makes, and 0 where none are counted.
    pub(super) fn count(&self, download: DownloadId) -> Result<u32, DiskError> {
        self.note(download, ShortCodes::count)
    }

    /// One that was counted has succeeded at this peer.
    pub(super) fn succeeded(&self, download: DownloadId, sharer: PeerId) -> Result<(), DiskError> {
        self.note(download, |codes, code| codes.succeeded(code, sharer))
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
        note(codes, &code).map_err(|error| {
            tracing::warn!(%error, "how often this code was tried is not noted");
            DiskError::Other(error.to_string())
        })
    }
}
