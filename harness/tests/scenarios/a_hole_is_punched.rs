use std::time::Duration;

use handover_core::Multiaddr;
use handover_core::code::ShortCode;
use handover_core::engine::{DownloadId, Event, FetchKey, FetchSource, PathKind, Short};
use handover_harness::{Fetch, HostId, Offering, Route, Tree, World, content};
use handover_transports::memory::LinkProfile;

use crate::{SECOND, assert_same, complete, pair};

fn relay() -> Multiaddr {
    let relay = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let text = format!("/ip4/1.2.3.4/tcp/1/p2p/{relay}/p2p-circuit");
    text.parse().unwrap()
}

/// Two hosts. The first can be reached only over a relay with a round trip of 160 ms, or through a hole that is punched
/// this long afterwards.
fn behind_a_nat(after: Duration) -> (World, HostId, HostId) {
    let (mut world, alice, bob) = pair(10);
    for host in [alice, bob] {
        world.unlisten(host, &World::address(host));
    }
    let straight = "/ip4/203.0.113.9/tcp/1".parse().unwrap();
    world.listen(alice, straight, Route::wan());
    world.open_routes(alice, false);
    let profile = LinkProfile {
        delay: Duration::from_millis(80),
        bandwidth: Some(1_000_000),
        window: 1 << 20,
        ..LinkProfile::WAN
    };
    let over = Route::new(PathKind::Relayed, profile);
    world.listen(alice, relay(), over);
    world.set_punching(alice, Some(after));
    (world, alice, bob)
}

fn share(world: &mut World, host: HostId, tree: &Tree) -> ShortCode {
    let mut offering = Offering::tree(tree.clone());
    offering.options.short = Short::New;
    world.share_with(host, offering);
    let code_of = |world: &World| {
        let mut events = world.events(host).iter();
        events.find_map(|event| match event {
            Event::ShareOpen { short, .. } => short.clone(),
            _ => None,
        })
    };
    assert!(world.run_until(|world| code_of(world).is_some(), 30 * SECOND));
    code_of(world).unwrap()
}

fn fetch(world: &mut World, host: HostId, code: ShortCode) -> DownloadId {
    let source = FetchSource {
        peer: None,
        addresses: vec![relay()],
        key: FetchKey::Short(code),
    };
    world.fetch_from(host, source, Fetch::default())
}

/// Regression: a direct connection that came up before the handshake on the relayed link was done was forgotten, and
/// the transfer stayed at the relay.
#[test]
fn a_hole_that_is_punched_during_the_handshake_is_used() {
    let tree = Tree::one("f", content(1, 3_000_000));
    for short in [false, true] {
        for after in (0..40).map(|step| Duration::from_millis(1 + 20 * step)) {
            let (mut world, alice, bob) = behind_a_nat(after);
            let download = if short {
                let code = share(&mut world, alice, &tree);
                fetch(&mut world, bob, code)
            } else {
                let (_, ticket) = world.share(alice, tree.clone());
                world.fetch(bob, &ticket)
            };
            let summary = complete(&mut world, bob, download);
            assert_same(&world, bob, download, &tree);
            assert_eq!(summary.path, Some(PathKind::Direct), "{short}, {after:?}");
        }
    }
}
