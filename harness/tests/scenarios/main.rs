//! Transfers between honest hosts, under all kinds of faults. One scenario per file, named by a sentence.

mod a_better_path_takes_over;
mod a_code_is_found_in_the_dht;
mod a_code_is_there_before_anything_is_listed_or_hashed;
mod a_download_goes_on_after_a_crash;
mod a_hole_is_punched;
mod a_link_dies_at_any_byte;
mod a_sharer_is_started_again;
mod a_sharer_that_has_left_is_not_missed;
mod a_sharer_that_holds_back_is_waited_for;
mod a_sharer_that_is_gone_is_given_up;
mod a_short_code_is_enough_on_a_local_network;
mod a_slow_link_is_not_taken_for_dead;
mod a_stream_goes_from_pipe_to_pipe;
mod files_and_disks_fail;
mod limits_hold_and_are_shared_out;
mod many_small_files_are_handed_over;
mod nobody_is_told_more_addresses_than_asked_for;
mod peers_remember_each_other;
mod receivers_serve_each_other;
mod several_downloads_at_once;
mod small_relays_carry_a_large_file;
mod swarmed;
mod two_hosts_hand_over_a_tree;
mod users_have_their_say;
mod what_is_here_is_not_fetched;

use std::time::Duration;

use handover_core::engine::{DownloadId, DownloadOutcome, DownloadSummary, Event};
use handover_harness::{HostId, Tree, World};

/// A world with two hosts.
fn pair(seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.add_host(), world.add_host());
    (world, alice, bob)
}

/// Runs a download to its end, which must be successful.
fn complete(world: &mut World, host: HostId, download: DownloadId) -> DownloadSummary {
    match world.run_to_end(host, download) {
        DownloadOutcome::Completed(summary) => summary,
        other => panic!("{other:?}"),
    }
}

/// Asserts that a download's folder contains exactly these files, ignoring attributes.
fn assert_same(world: &World, host: HostId, download: DownloadId, tree: &Tree) {
    let folder = world.disk(host).folder(download);
    let paths =
        |tree: &Tree| -> Vec<String> { tree.iter().map(|(path, _)| path.to_owned()).collect() };
    assert_eq!(paths(folder), paths(tree));
    for (path, _) in tree.iter() {
        assert!(folder.bytes(path) == tree.bytes(path), "{path} differs");
    }
    assert!(!world.disk(host).is_staged(download));
}

fn count(world: &World, host: HostId, is: impl Fn(&Event) -> bool) -> usize {
    world.events(host).iter().filter(|event| is(event)).count()
}

const SECOND: Duration = Duration::from_secs(1);
