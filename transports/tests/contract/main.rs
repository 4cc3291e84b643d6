//! The guarantees of a transport, tested on each kind.

mod cases;
mod world;

use world::World;

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $case() {
                super::cases::$case(super::World::memory()).await;
            })*
        }
        mod memory_far {
            $(#[tokio::test(start_paused = true)] async fn $case() {
                super::cases::$case(super::World::memory_far()).await;
            })*
        }
        mod tcp {
            $(#[tokio::test] async fn $case() {
                super::cases::$case(super::World::tcp()).await;
            })*
        }
        mod quic {
            $(#[tokio::test] async fn $case() {
                super::cases::$case(super::World::quic()).await;
            })*
        }
    };
}

contract!(
    both_ends_learn_of_a_link,
    bytes_go_both_ways,
    eight_mebibytes_arrive_whole_each_way_at_once,
    a_closed_direction_leaves_the_other_open,
    bytes_before_a_close_and_drop_arrive,
    a_dropped_stream_is_noticed,
    a_closed_link_is_noticed,
    a_vanished_peer_is_noticed,
    nobody_there_is_a_failed_dial,
    nowhere_to_dial_is_a_failed_dial,
    a_strange_address_is_a_failed_dial,
    another_peer_is_refused,
    a_wrong_address_does_not_spoil_a_right_one,
    an_unknown_peer_can_be_dialled,
    oneself_is_not_dialled,
    two_links_to_one_peer_are_apart,
    both_may_dial_at_once,
    many_dials_at_once_are_each_answered_once,
    a_shutdown_ends_everything,
);
