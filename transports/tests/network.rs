//! Tests of the simulated network in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::{Buf, Bytes};
use handover_core::engine::LinkId;
use handover_core::time::Time;
use handover_transports::memory::{
    Death, DownCause, Ends, LinkClosed, LinkProfile, Network, NetworkEvent, Pieces,
};
use proptest::prelude::*;

/// Sends all queued bytes and consumes everything delivered until no event is left.
struct Drive {
    network: Network,
    outgoing: BTreeMap<LinkId, VecDeque<Bytes>>,
    received: BTreeMap<LinkId, Vec<u8>>,
    down: BTreeMap<LinkId, DownCause>,
    ended: Vec<LinkId>,
    trace: DefaultHasher,
    events: usize,
}

impl Drive {
    fn new(network: Network) -> Self {
        Self {
            network,
            outgoing: BTreeMap::new(),
            received: BTreeMap::new(),
            down: BTreeMap::new(),
            ended: Vec::new(),
            trace: DefaultHasher::new(),
            events: 0,
        }
    }

    /// Queues writes at an end, which closes after them.
    fn send(&mut self, end: LinkId, writes: &[Bytes]) {
        self.outgoing.insert(end, writes.iter().cloned().collect());
        self.push(end);
    }

    fn push(&mut self, end: LinkId) {
        let Some(queue) = self.outgoing.get_mut(&end) else {
            return;
        };
        while let Some(front) = queue.front_mut() {
            match self.network.send(end, front) {
                Err(LinkClosed) => return,
                Ok(taken) => front.advance(taken),
            }
            if !front.is_empty() {
                return;
            }
            queue.pop_front();
        }
        self.network.close(end);
    }

    fn run(&mut self) {
        while let Some(at) = self.network.next_event_at() {
            for event in self.network.advance_to(at) {
                self.events += 1;
                (self.network.now(), &event).hash(&mut self.trace);
                self.on_event(event);
            }
        }
    }

    fn on_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Up { .. } => {}
            NetworkEvent::Delivered { end, bytes } => {
                assert!(!bytes.is_empty());
                self.network.consumed(end, bytes.len());
                self.received.entry(end).or_default().extend(bytes);
            }
            NetworkEvent::Writable { end } => self.push(end),
            NetworkEvent::Ended { end } => self.ended.push(end),
            NetworkEvent::Down { end, cause } => {
                assert_eq!(self.down.insert(end, cause), None);
            }
        }
    }

    fn received(&self, end: LinkId) -> &[u8] {
        self.received.get(&end).map_or(&[], Vec::as_slice)
    }
}

fn connected(seed: u64, profile: LinkProfile) -> (Network, Ends) {
    let mut network = Network::new(seed);
    let (a, b) = (network.add_host(), network.add_host());
    let ends = network.connect(a, b, profile);
    (network, ends)
}

/// Bytes that differ from every shifted copy of themselves.
fn content(len: usize) -> Bytes {
    (0..len).map(|i| (i * i / 7 + i).to_le_bytes()[0]).collect()
}

fn profile() -> impl Strategy<Value = LinkProfile> {
    let pieces = prop_oneof![
        Just(Pieces::Whole),
        (1_usize..5000).prop_map(|max| Pieces::Random { max }),
    ];
    let bandwidth = proptest::option::of(1_000_u64..1_000_000_000);
    (
        0_u64..300_000,
        0_u64..50_000,
        bandwidth,
        1_usize..100_000,
        pieces,
    )
        .prop_map(|(delay, jitter, bandwidth, window, pieces)| LinkProfile {
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros(jitter),
            bandwidth,
            window,
            pieces,
        })
}

fn writes() -> impl Strategy<Value = Vec<Bytes>> {
    proptest::collection::vec(0_usize..9000, 0..12)
        .prop_map(|sizes| sizes.into_iter().map(content).collect())
}

proptest! {
    #[test]
    fn bytes_in_are_bytes_out_in_order(
        seed: u64,
        profile in profile(),
        there in writes(),
        back in writes(),
    ) {
        // A tiny window over a long delay needs a great many events.
        let profile = LinkProfile { window: profile.window.max(500), ..profile };
        let (network, ends) = connected(seed, profile);
        let mut drive = Drive::new(network);
        drive.send(ends.dialler, &there);
        drive.send(ends.listener, &back);
        drive.run();
        prop_assert_eq!(drive.received(ends.listener), there.concat());
        prop_assert_eq!(drive.received(ends.dialler), back.concat());
        prop_assert_eq!(drive.ended.len(), 2);
        prop_assert!(drive.down.is_empty());
        prop_assert_eq!(drive.network.links().count(), 0);
    }

    #[test]
    fn a_killed_link_delivers_a_prefix(
        seed: u64,
        profile in profile(),
        budget in 0_u64..60_000,
    ) {
        let profile = LinkProfile { window: profile.window.max(500), ..profile };
        let (mut network, ends) = connected(seed, profile);
        network.kill_link(ends.listener, Death::AfterBytes(budget));
        let sent = content(40_000);
        let mut drive = Drive::new(network);
        drive.send(ends.dialler, std::slice::from_ref(&sent));
        drive.run();
        let got = drive.received(ends.listener);
        prop_assert!(sent.starts_with(got));
        if budget <= 40_000 {
            prop_assert_eq!(got.len() as u64, budget);
            prop_assert_eq!(drive.down.get(&ends.dialler), Some(&DownCause::Lost));
            prop_assert_eq!(drive.down.get(&ends.listener), Some(&DownCause::Lost));
        } else {
            prop_assert_eq!(got.len(), 40_000);
        }
    }
}

fn trace_of(seed: u64) -> (u64, usize) {
    let mut network = Network::new(seed);
    let hosts: Vec<_> = (0..4).map(|_| network.add_host()).collect();
    let mut drive = Drive::new(Network::new(0));
    let mut ends = Vec::new();
    for a in &hosts {
        for b in &hosts {
            ends.push(network.connect(*a, *b, LinkProfile::WAN));
        }
    }
    network.kill_link(ends[3].dialler, Death::AfterBytes(70_000));
    network.kill_link(ends[5].dialler, Death::At(Time::from_nanos(180_000_000)));
    network.stall(ends[7].listener, Time::from_nanos(900_000_000));
    std::mem::swap(&mut drive.network, &mut network);
    for ends in ends {
        drive.send(ends.dialler, &[content(150_000), content(31)]);
        drive.send(ends.listener, &[content(5_000)]);
    }
    drive.run();
    (drive.trace.finish(), drive.events)
}

#[test]
fn one_seed_has_one_trace() {
    let (first, events) = trace_of(7);
    assert!(events > 500, "only {events} events");
    assert_eq!(trace_of(7), (first, events));
    assert_ne!(trace_of(8).0, first);
}

#[test]
fn a_draw_on_one_link_leaves_the_others_alone() {
    let arrivals = |with_noise: bool| {
        let (mut network, ends) = connected(3, LinkProfile::WAN);
        let (a, b) = (network.add_host(), network.add_host());
        let noise = network.connect(a, b, LinkProfile::WAN);
        if with_noise {
            network.send(noise.dialler, &content(60_000)).unwrap();
        }
        network.send(ends.dialler, &content(60_000)).unwrap();
        let mut arrivals = Vec::new();
        while let Some((at, event)) = network.step(Time::NEVER) {
            if let NetworkEvent::Delivered { end, bytes } = event
                && end == ends.listener
            {
                arrivals.push((at, bytes.len()));
            }
        }
        arrivals
    };
    assert_eq!(arrivals(false), arrivals(true));
}

#[test]
fn a_full_window_holds_the_sender_back_until_it_is_consumed() {
    let profile = LinkProfile {
        delay: Duration::from_millis(10),
        window: 1000,
        ..LinkProfile::INSTANT
    };
    let (mut network, ends) = connected(1, profile);
    assert_eq!(network.send(ends.dialler, &content(1500)), Ok(1000));
    assert_eq!(network.send(ends.dialler, &content(500)), Ok(0));
    let second = Time::from_nanos(1_000_000_000);
    let events = network.advance_to(second);
    assert!(
        !events
            .iter()
            .any(|e| matches!(e, NetworkEvent::Writable { .. }))
    );
    network.consumed(ends.listener, 400);
    assert_eq!(network.room(ends.dialler), 0, "the sender can't know yet");
    let events = network.advance_to(second + Duration::from_millis(10));
    let end = ends.dialler;
    assert_eq!(events, [NetworkEvent::Writable { end }]);
    assert_eq!(network.send(end, &content(500)), Ok(400));
}

#[test]
fn bandwidth_and_delay_decide_when_the_last_byte_is_there() {
    let profile = LinkProfile {
        delay: Duration::from_millis(30),
        bandwidth: Some(1_000_000),
        pieces: Pieces::Random { max: 4096 },
        ..LinkProfile::INSTANT
    };
    let (mut network, ends) = connected(1, profile);
    network.send(ends.dialler, &content(500_000)).unwrap();
    let mut last = Time::ZERO;
    while let Some((at, event)) = network.step(Time::NEVER) {
        if matches!(event, NetworkEvent::Delivered { .. }) {
            last = at;
        }
    }
    // 500 ms on the line and 30 ms of delay; the time of each piece is rounded down to a nanosecond.
    let took = last.since(Time::ZERO);
    assert!(took <= Duration::from_millis(530));
    assert!(took > Duration::from_micros(529_990));
}

#[test]
fn a_stalled_end_gets_everything_later() {
    let (mut network, ends) = connected(1, LinkProfile::LAN);
    let until = Time::from_nanos(5_000_000_000);
    network.stall(ends.listener, until);
    network.send(ends.dialler, &content(100_000)).unwrap();
    let early = network.advance_to(Time::from_nanos(4_999_999_999));
    assert!(
        !early
            .iter()
            .any(|e| matches!(e, NetworkEvent::Delivered { .. }))
    );
    let mut got = 0;
    for event in network.advance_to(until) {
        if let NetworkEvent::Delivered { bytes, .. } = event {
            got += bytes.len();
        }
    }
    assert_eq!(got, 100_000);
}

#[test]
fn a_reset_comes_after_what_was_sent() {
    let (mut network, ends) = connected(1, LinkProfile::WAN);
    network.send(ends.dialler, &content(10_000)).unwrap();
    network.reset(ends.dialler);
    assert_eq!(network.send(ends.dialler, &content(1)), Err(LinkClosed));
    let mut drive = Drive::new(network);
    drive.run();
    assert_eq!(drive.received(ends.listener), content(10_000));
    assert_eq!(drive.down.get(&ends.listener), Some(&DownCause::Reset));
    assert_eq!(drive.down.get(&ends.dialler), None);
    assert_eq!(drive.network.links().count(), 0);
}
