use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path());
    (folder, store)
}

fn called(name: &str) -> Meeting {
    Meeting {
        name: name.to_string(),
        ..Meeting::default()
    }
}

fn pair(byte: u8) -> Pair {
    Pair {
        us: PeerId::random(),
        secret: PairSecret::from_bytes([byte; 32]),
    }
}

#[test]
fn what_is_known_of_a_peer_adds_up() {
    let (_folder, store) = store();
    let peer = PeerId::random();
    let brought = Meeting {
        delivered: 3000,
        delivered_in: Duration::from_secs(2),
        completed: Some(true),
        bad: 1,
        ..called("laptop")
    };
    store.meet(peer, &brought, 100, false).unwrap();
    let took = Meeting {
        taken: 50,
        carried: 700,
        cuts: 2,
        completed: Some(false),
        violations: 1,
        ..called("ada's laptop")
    };
    store.meet(peer, &took, 200, true).unwrap();
    let wanted = PeerRecord {
        names: vec!["ada's laptop".to_string(), "laptop".to_string()],
        first_met: 100,
        last_met: 200,
        delivered: 3000,
        delivered_in: Duration::from_secs(2),
        taken: 50,
        completed: 1,
        failed: 1,
        bad: 1,
        violations: 1,
        carried: 700,
        cuts: 2,
        pair: None,
    };
    assert_eq!(store.peers().unwrap(), [(peer, wanted.clone())]);
    assert_eq!(wanted.speed(), Some(1500));
}

#[test]
fn names_are_few_and_short_and_the_last_comes_first() {
    let (_folder, store) = store();
    let peer = PeerId::random();
    let long = "é".repeat(200);
    for name in ["a", "b", "c", "", "d", "b", &long] {
        store.meet(peer, &called(name), 1, false).unwrap();
    }
    let (_, record) = store.peers().unwrap().remove(0);
    assert_eq!(record.names, [&long[..254], "b", "d", "c"]);
}

#[test]
fn what_was_agreed_on_is_kept_until_one_is_forgotten() {
    let (_folder, store) = store();
    let (known, other) = (PeerId::random(), PeerId::random());
    let agreed = pair(7);
    store.pair(known, "laptop", &agreed, 5).unwrap();
    store.meet(other, &called("phone"), 6, false).unwrap();
    store.meet(known, &called(""), 7, false).unwrap();
    let peers = store.peers().unwrap();
    assert_eq!(peers[0].0, known);
    assert_eq!(peers[0].1.pair, Some(agreed));
    assert_eq!(peers[0].1.name(), "laptop");
    store.forget_peer(known).unwrap();
    assert_eq!(store.peers().unwrap().len(), 1);
    assert_eq!(store.forget_all_peers().unwrap(), 1);
    assert!(store.peers().unwrap().is_empty());
}

#[test]
fn strangers_at_the_door_are_not_noted() {
    let (_folder, store) = store();
    let blamed = Meeting {
        violations: 1,
        ..Meeting::default()
    };
    store.meet(PeerId::random(), &blamed, 5, true).unwrap();
    assert!(store.peers().unwrap().is_empty());
}

#[test]
fn who_was_met_longest_ago_goes_first_and_who_is_known_by_agreement_last() {
    let (_folder, store) = store();
    let known = PeerId::random();
    store.pair(known, "laptop", &pair(1), 1).unwrap();
    let peers: Vec<_> = (0..KEPT - 1).map(|_| PeerId::random()).collect();
    store
        .write(|transaction| {
            let mut table = transaction.open_table(PEERS)?;
            for (at, peer) in (2..).zip(&peers) {
                let record = PeerRecord {
                    last_met: at,
                    ..PeerRecord::default()
                };
                table.insert(peer.to_bytes().as_slice(), encode(&record).as_slice())?;
            }
            Ok(())
        })
        .unwrap();
    let new = PeerId::random();
    store.meet(new, &called("new"), 1, false).unwrap();
    let left: Vec<_> = store
        .peers()
        .unwrap()
        .into_iter()
        .map(|(peer, _)| peer)
        .collect();
    assert_eq!(left.len(), 1000);
    assert!(left.contains(&known) && left.contains(&new) && left.contains(&peers[1]));
    assert!(!left.contains(&peers[0]));
}

/// Row 25.
#[test]
fn a_record_does_not_show_its_secret() {
    let record = PeerRecord {
        pair: Some(pair(0xab)),
        ..PeerRecord::default()
    };
    let shown = format!("{record:?}");
    assert!(shown.contains("PairSecret(..)"), "{shown}");
}

#[test]
fn standings_are_in_the_order_in_which_one_would_ask() {
    let record = |completed, failed, bad, violations, speed| PeerRecord {
        completed,
        failed,
        bad,
        violations,
        delivered: speed,
        delivered_in: Duration::from_secs(1),
        ..PeerRecord::default()
    };
    let mib = 1024 * 1024;
    let best_first = [
        record(u32::MAX, 0, 0, 0, u64::MAX),
        record(3, 0, 0, 0, 8 * mib),
        record(3, 0, 0, 0, mib),
        record(1, 0, 0, 0, 0),
        PeerRecord::default(),
        record(3, 2, 0, 0, 0),
        record(1, 0, 2, 0, mib),
        record(0, u32::MAX, u32::MAX, 0, 0),
        record(u32::MAX, 0, 0, 1, u64::MAX),
        record(0, 0, 0, u32::MAX, 0),
    ];
    let standings = best_first.map(|record| standing(&record));
    assert!(standings.is_sorted_by(|a, b| a > b), "{standings:?}");
    assert_eq!(standing(&PeerRecord::default()), 0);
}

#[test]
fn relays_that_carry_more_before_they_cut_come_first() {
    let record = |carried: u64, cuts| PeerRecord {
        carried: carried << 10,
        cuts,
        ..PeerRecord::default()
    };
    let best_first = [
        record(1 << 20, 0),
        record(1 << 20, 100),
        record(20, 0),
        record(20, 1),
        record(0, 1),
    ];
    let standings = best_first.map(|record| standing(&record));
    assert!(standings.is_sorted_by(|a, b| a > b), "{standings:?}");
    // The usual relays, and one that was soon not needed, rank like unknown peers.
    assert_eq!(standing(&record(128 * 1000, 999)), 0);
    assert_eq!(standing(&record(20, 0)), 0);
}
