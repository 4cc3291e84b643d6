use std::time::Duration;

use bytes::Bytes;
use handover_core::chunk::{self, Chunk, MAX_CHUNKS};
use handover_core::engine::{
    AcceptTerms, DownloadError, DownloadId, DownloadOutcome, DownloadSummary, OnConflict,
};
use handover_core::limits::GROUP;
use handover_core::message::Message;
use handover_harness::{Answer, Fetch, HostId, Say, Tree, World, content};

use crate::blames;

/// A scripted peer shares the new version of a file, and a receiver has the old one.
struct Scene {
    world: World,
    mallory: HostId,
    bob: HostId,
    fetch: Fetch,
    ticket: handover_core::code::Ticket,
    new: Bytes,
}

fn scene() -> Scene {
    let mut world = World::new(61);
    let (mallory, bob) = (world.add_puppet(), world.add_host());
    let old = content(1, 100 * GROUP as usize);
    let mut new = old.to_vec();
    let middle = 50 * GROUP as usize;
    new.splice(middle..middle, *b"put in");
    let new = Bytes::from(new);
    let ticket = world
        .puppet_shares(mallory, Tree::one("file", new.clone()))
        .ticket;
    let terms = AcceptTerms {
        select: None,
        on_conflict: OnConflict::Overwrite,
        executables: true,
    };
    let fetch = Fetch {
        existing: Tree::one("file", old),
        answer: Answer::Accept(terms),
        ..Fetch::default()
    };
    Scene {
        world,
        mallory,
        bob,
        fetch,
        ticket,
        new,
    }
}

impl Scene {
    /// Passes lists of chunks through this function.
    fn twist(&mut self, mut twist: impl FnMut(&mut u32, &mut Vec<Chunk>) -> bool + 'static) {
        self.world.twist(self.mallory, move |message, payload| {
            let Message::Chunks {
                entry,
                first,
                mut total,
            } = message
            else {
                return vec![Say::Sealed(message, payload)];
            };
            let mut chunks = chunk::decode(&payload).unwrap();
            if !twist(&mut total, &mut chunks) {
                return Vec::new();
            }
            let list = Message::Chunks {
                entry,
                first,
                total,
            };
            vec![Say::Sealed(list, chunk::encode(&chunks).into())]
        });
    }

    fn run(&mut self) -> (DownloadId, DownloadOutcome) {
        let fetch = self.fetch.clone();
        let download = self.world.fetch_with(self.bob, &self.ticket, fetch);
        let bob = self.bob;
        let over = |world: &World| world.outcome(bob, download).is_some();
        assert!(self.world.run_until(over, Duration::from_mins(5)));
        let outcome = self.world.outcome(bob, download).cloned();
        (download, outcome.unwrap())
    }

    /// Asserts that it does no harm: the file arrives, and no peer is blamed.
    fn assert_harmless(mut self) -> DownloadSummary {
        let (download, outcome) = self.run();
        let DownloadOutcome::Completed(summary) = outcome else {
            panic!("{outcome:?}");
        };
        let folder = self.world.disk(self.bob).folder(download);
        assert!(folder.bytes("file") == Some(&self.new));
        assert_eq!(blames(&self.world, self.bob), [] as [&str; 0]);
        summary
    }

    fn assert_blamed(mut self, reason: &str) {
        let (_, outcome) = self.run();
        let violation = DownloadError::Violation(reason.to_owned());
        assert_eq!(outcome, DownloadOutcome::Failed(violation));
        assert_eq!(blames(&self.world, self.bob), [reason]);
    }
}

#[test]
fn the_truth_spares_almost_everything() {
    let mut scene = scene();
    scene.twist(|_, _| true);
    let size = scene.new.len() as u64;
    let summary = scene.assert_harmless();
    assert!(size - summary.spared < 10 * u64::from(GROUP));
}

/// Data reused according to such a list is wrong, but only the root reveals it, so the sharer might be right.
#[test]
fn chunks_in_another_order_cost_a_second_fetch_and_nothing_else() {
    let mut scene = scene();
    scene.twist(|_, chunks| {
        chunks.reverse();
        true
    });
    assert_eq!(scene.assert_harmless().spared, 0);
}

#[test]
fn a_sharer_without_a_list_is_fetched_from() {
    let mut without = scene();
    without.twist(|total, chunks| {
        *total = 0;
        chunks.clear();
        true
    });
    assert_eq!(without.assert_harmless().spared, 0);
    let mut silent = scene();
    silent.twist(|_, _| false);
    assert_eq!(silent.assert_harmless().spared, 0);
}

/// Row 14.
#[test]
fn lists_are_bounded_and_fit_their_file() {
    let mut too_many = scene();
    too_many.twist(|total, _| {
        *total = MAX_CHUNKS + 1;
        true
    });
    too_many.assert_blamed("chunks that do not fit their list");
    let mut more_than_said = scene();
    more_than_said.twist(|total, chunks| {
        *total = u32::try_from(chunks.len()).unwrap() - 1;
        true
    });
    more_than_said.assert_blamed("chunks that do not fit their list");
    let mut empty = scene();
    empty.twist(|_, chunks| {
        chunks.clear();
        true
    });
    empty.assert_blamed("chunks that do not fit their list");
    let mut too_short = scene();
    too_short.twist(|total, chunks| {
        chunks.pop();
        *total -= 1;
        true
    });
    too_short.assert_blamed("chunks that are not those of the file");
}

#[test]
fn what_was_not_asked_for_and_what_is_no_list_are_caught() {
    let mut unasked = scene();
    unasked.world.twist(unasked.mallory, |message, payload| {
        let is_data = matches!(message, Message::Data { .. });
        let mut said = vec![Say::Sealed(message, payload)];
        if is_data {
            let list = Message::Chunks {
                entry: 7,
                first: 0,
                total: 0,
            };
            said.push(Say::Sealed(list, Bytes::new()));
        }
        said
    });
    unasked.assert_blamed("chunks that were not asked for");
    let mut torn = scene();
    torn.world.twist(torn.mallory, |message, payload| {
        let torn = match &message {
            Message::Chunks { .. } => payload.slice(1..),
            _ => payload,
        };
        vec![Say::Sealed(message, torn)]
    });
    torn.assert_blamed("chunks that are none");
}
