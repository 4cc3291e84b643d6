//! A download, from its offer to its end. A download without an offer is not recorded.

use std::path::Path;
use std::time::{Duration, Instant};

use handover::store::{Direction, Ended, Meeting, Transfer};
use handover_core::PeerId;
use handover_core::engine::{DownloadError, DownloadOutcome, Event, PathKind};

use super::{Note, now};

/// State of a download in progress.
pub(super) struct Received {
    folder: Option<String>,
    peer: Option<PeerId>,
    path: Option<PathKind>,
    offer: Option<Offer>,
    /// Number of bytes present, from the last progress event.
    done: u64,
}

struct Offer {
    name: String,
    author: String,
    files: u64,
    came: Instant,
}

impl Received {
    pub(super) fn new(folder: Option<&Path>) -> Self {
        let whole = |folder: &Path| std::path::absolute(folder).unwrap_or(folder.to_path_buf());
        Self {
            folder: folder.map(|folder| whole(folder).display().to_string()),
            peer: None,
            path: None,
            offer: None,
            done: 0,
        }
    }

    /// True if an event blames the connected peer, which has proved that it knows the download's key.
    pub(super) fn has_met(&self, event: &Event) -> bool {
        matches!(event, Event::PeerBlamed { peer, .. } if self.peer == Some(*peer))
    }

    pub(super) fn event(&mut self, event: &Event) -> Vec<Note> {
        match event {
            Event::Connected { peer, path, .. } => {
                self.peer = Some(*peer);
                self.path = self.path.or(Some(*path));
            }
            Event::PathChanged { path, .. } => self.path = Some(*path),
            Event::Offer { manifest, .. } => {
                self.offer = Some(Offer {
                    name: manifest.name().to_string(),
                    author: manifest.author().to_string(),
                    files: manifest.summary().files,
                    came: Instant::now(),
                });
            }
            Event::Progress { progress, .. } => {
                self.done = progress.done;
                self.path = Some(progress.path);
            }
            Event::Delivered {
                peer,
                bytes,
                bad,
                took,
                ..
            } => {
                let meeting = Meeting {
                    delivered: *bytes,
                    delivered_in: *took,
                    bad: *bad,
                    ..Meeting::default()
                };
                return vec![Note::Meeting(*peer, meeting, false)];
            }
            Event::Carried {
                relay, bytes, cuts, ..
            } => {
                let meeting = Meeting {
                    carried: *bytes,
                    cuts: *cuts,
                    ..Meeting::default()
                };
                return vec![Note::Meeting(*relay, meeting, false)];
            }
            Event::DownloadEnded { outcome, .. } => return self.ended(outcome),
            _ => {}
        }
        Vec::new()
    }

    fn ended(&mut self, outcome: &DownloadOutcome) -> Vec<Note> {
        let Some(offer) = self.offer.take() else {
            return Vec::new();
        };
        let mut transfer = Transfer {
            at: now(),
            direction: Direction::Received,
            name: offer.name,
            files: offer.files,
            bytes: self.done,
            peer: self.peer.map(|peer| peer.to_string()),
            peer_name: offer.author.clone(),
            ended: Ended::Cancelled,
            reason: String::new(),
            took: offer.came.elapsed(),
            path: self.path,
            folder: self.folder.clone(),
        };
        let completed = match outcome {
            DownloadOutcome::Completed(done) => {
                transfer.ended = match done.failed {
                    0 => Ended::Completed,
                    _ => Ended::Incomplete,
                };
                transfer.files = done.files;
                transfer.bytes = done.bytes;
                transfer.took = done.took;
                transfer.path = done.path.or(self.path);
                Some(true)
            }
            DownloadOutcome::Declined => {
                transfer.ended = Ended::Declined;
                transfer.took = Duration::ZERO;
                None
            }
            DownloadOutcome::Cancelled | DownloadOutcome::Suspended => None,
            DownloadOutcome::Failed(error) => {
                transfer.ended = match error {
                    DownloadError::Violation(_) => Ended::Violation,
                    _ => Ended::Failed,
                };
                transfer.reason = error.to_string();
                // A local failure, such as a full disk, does not count against the peer.
                let theirs =
                    !matches!(error, DownloadError::Disk(_) | DownloadError::Unsuitable(_));
                theirs.then_some(false)
            }
        };
        let meeting = Meeting {
            name: offer.author,
            completed,
            ..Meeting::default()
        };
        let met = self.peer.map(|peer| Note::Meeting(peer, meeting, false));
        met.into_iter().chain([Note::Transfer(transfer)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use handover_core::Keypair;
    use handover_core::engine::{DiskError, DownloadId, KeptSummary};
    use handover_core::limits::Limits;
    use handover_core::manifest::{ManifestParts, SignedManifest};

    use super::*;

    const DOWNLOAD: DownloadId = DownloadId(1);

    fn keys() -> Keypair {
        Keypair::ed25519_from_bytes([1; 32]).unwrap()
    }

    /// Returns a download that has reached its offer.
    fn offered() -> Received {
        let parts = ManifestParts {
            name: "mods".to_string(),
            author: "desk".to_string(),
            ..ManifestParts::default()
        };
        let signed = SignedManifest::sign(parts, &keys(), &Limits::default()).unwrap();
        let mut received = Received::new(None);
        received.event(&Event::Connected {
            download: DOWNLOAD,
            peer: keys().public().to_peer_id(),
            path: PathKind::Direct,
        });
        received.event(&Event::Offer {
            download: DOWNLOAD,
            manifest: Arc::clone(signed.manifest()),
            folder: None,
            taken: Vec::new(),
            free: None,
            kept: KeptSummary::default(),
        });
        received
    }

    fn end(received: &mut Received, error: DownloadError) -> Vec<Note> {
        received.event(&Event::DownloadEnded {
            download: DOWNLOAD,
            outcome: DownloadOutcome::Failed(error),
        })
    }

    #[test]
    fn a_failure_counts_against_a_peer_only_if_it_is_not_ours() {
        let full = || DownloadError::Disk(DiskError::Full);
        for (error, completed, ended) in [
            (full(), None, Ended::Failed),
            (DownloadError::Withdrawn, Some(false), Ended::Failed),
            (
                DownloadError::Violation("lies".to_string()),
                Some(false),
                Ended::Violation,
            ),
        ] {
            let notes = end(&mut offered(), error);
            let [
                Note::Meeting(peer, meeting, false),
                Note::Transfer(transfer),
            ] = &notes[..]
            else {
                panic!("{notes:?}");
            };
            assert_eq!(*peer, keys().public().to_peer_id());
            assert_eq!(
                (meeting.completed, meeting.name.as_str()),
                (completed, "desk")
            );
            assert_eq!((transfer.ended, transfer.name.as_str()), (ended, "mods"));
        }
    }

    #[test]
    fn what_never_came_to_an_offer_is_no_transfer() {
        let mut received = Received::new(None);
        let error = DownloadError::Unreachable("no answer".to_string());
        assert!(end(&mut received, error).is_empty());
    }
}
