//! Builds a plan's world.

use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use handover_core::engine::PathKind;
use handover_core::secret::ShareSecret;
use handover_core::time::Time;
use handover_core::{Multiaddr, PeerId};
use handover_transports::memory::{HostId, LinkProfile, Pieces};

use super::{Act, Order, Share, Sim, millis};
use crate::disk::DiskProfile;
use crate::plan::{HostPlan, LiarPlan, Lie, PathPlan, Plan, StandInPlan, WayPlan};
use crate::puppet::Sharing;
use crate::tree::{Tree, content};
use crate::world::{Nat, Relay, Route, World, relay_peer};

/// Links to malicious peers: almost no delay.
const AT_ONCE: LinkProfile = LinkProfile {
    delay: Duration::from_millis(1),
    jitter: Duration::ZERO,
    bandwidth: None,
    window: 32 << 10,
    pieces: Pieces::Whole,
};

impl<'a> Sim<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let mut world = World::with_limits(plan.seed, plan.limits.limits());
        for relay in &plan.relays {
            let limit = |number: u32| (number > 0).then_some(number);
            world.add_relay(Relay {
                bytes: limit(relay.bytes).map(u64::from),
                each_way: relay.each_way,
                time: limit(relay.time).map(millis),
                silent: relay.silent,
                circuits: limit(relay.circuits.into()).map(|most| most as usize),
                ..Relay::default()
            });
        }
        let unproved = plan.liars.iter().any(|liar| liar.lie == Lie::Unproved);
        let hosts = plan.hosts.iter().enumerate();
        let hosts: Vec<_> = hosts
            .map(|(at, host)| add_host(&mut world, at, host, unproved))
            .collect();
        let liars: Vec<_> = plan
            .liars
            .iter()
            .map(|liar| add_liar(&mut world, liar))
            .collect();
        let attackers = plan.attackers.iter();
        let attackers: Vec<_> = attackers.map(|_| add_puppet(&mut world)).collect();
        world.dht.planted = planted(&world, &liars, &attackers);
        for stand_in in &plan.stand_ins {
            add_stand_in(&mut world, *stand_in);
        }
        let shares = plan.shares.iter().enumerate();
        let shares = shares
            .map(|(at, share)| Share::new(at, share, ShareSecret::from_bytes(world.draw())))
            .collect();
        let mut sim = Self {
            plan,
            world,
            moves: vec![0; hosts.len()],
            hosts,
            liars,
            attackers,
            shares,
            orders: plan.orders.iter().map(|_| Order::default()).collect(),
            agenda: BinaryHeap::new(),
            next: 0,
            troubled: BTreeSet::new(),
            ending: BTreeSet::new(),
            healed: false,
            heard: 0,
        };
        sim.world.make_neighbourly();
        sim.fill_agenda();
        sim
    }

    fn fill_agenda(&mut self) {
        let plan = self.plan;
        for (at, share) in plan.shares.iter().enumerate() {
            self.plan_act(millis(share.at), Act::Open(at));
        }
        for (at, order) in plan.orders.iter().enumerate() {
            self.plan_act(millis(order.at), Act::Order(at));
        }
        for (at, attacker) in plan.attackers.iter().enumerate() {
            self.plan_act(millis(attacker.at), Act::Attack(at, attacker.times));
        }
        for (at, fault) in plan.faults.iter().enumerate() {
            self.plan_act(millis(fault.at), Act::Fault(at));
        }
        self.plan_act(millis(plan.heals_at), Act::Heal);
    }
}

fn add_host(world: &mut World, at: usize, plan: &HostPlan, may_be_wrong: bool) -> HostId {
    let host = world.add_host();
    world.unlisten(host, &World::address(host));
    world.set_lan(host, plan.lan);
    world.set_nat(
        host,
        plan.nat.map(|nat| Nat {
            mapping: nat.mapping,
            filtering: nat.filtering,
            expiry: Duration::from_secs(nat.expiry.into()),
        }),
    );
    let punching = plan.punching.map(u64::from);
    world.set_punching(host, punching.map(Duration::from_millis));
    world.disk_mut(host).profile = disk_profile(plan.disk);
    world.disk_mut(host).pipes_may_be_wrong = may_be_wrong;
    world.disk_mut(host).remembers = plan.remembers;
    world.disk_mut(host).clashes = plan.clashes.into();
    for (address, route) in ways(at, plan, 0) {
        world.listen(host, address, route);
    }
    host
}

/// A disk whose jobs take about this many microseconds.
pub(super) fn disk_profile(micros: u32) -> DiskProfile {
    let took = Duration::from_micros(micros.into());
    DiskProfile {
        scan: took,
        read: took,
        hash: took,
        write: took,
        sync: took,
        other: took,
        jitter: took * 2,
    }
}

/// Addresses of a host after this many moves.
pub(super) fn ways(host: usize, plan: &HostPlan, moves: u8) -> Vec<(Multiaddr, Route)> {
    let ways = plan.ways.iter().enumerate();
    ways.map(|(at, way)| (address(host, at, way, moves), route(way)))
        .collect()
}

fn address(host: usize, at: usize, way: &WayPlan, moves: u8) -> Multiaddr {
    let net = match way.path {
        PathPlan::Lan => 10,
        PathPlan::Direct => 200,
        PathPlan::Relayed(_) => 50,
    };
    let end = if way.quic {
        "udp/4000/quic-v1"
    } else {
        "tcp/4000"
    };
    let through = match way.path {
        PathPlan::Relayed(relay) => format!("/p2p/{}/p2p-circuit", relay_peer(relay)),
        PathPlan::Lan | PathPlan::Direct => String::new(),
    };
    let text = format!("/ip4/{net}.{moves}.{host}.{}/{end}{through}", at + 1);
    text.parse().expect("an address")
}

fn route(way: &WayPlan) -> Route {
    let path = match way.path {
        PathPlan::Lan => PathKind::Lan,
        PathPlan::Direct => PathKind::Direct,
        PathPlan::Relayed(_) => PathKind::Relayed,
    };
    let profile = LinkProfile {
        delay: millis(way.delay.into()),
        jitter: millis(way.jitter.into()),
        bandwidth: (way.rate > 0).then_some(way.rate.into()),
        window: usize::try_from(way.window).unwrap_or(usize::MAX),
        pieces: match way.pieces {
            0 => Pieces::Whole,
            max => Pieces::Random { max: max.into() },
        },
    };
    let route = Route::new(path, profile).with_setup(millis(way.setup.into()));
    match way.path {
        PathPlan::Relayed(relay) => route.through(relay.into()),
        _ => route,
    }
}

fn add_puppet(world: &mut World) -> HostId {
    let puppet = world.add_puppet();
    let route = Route::new(PathKind::Direct, AT_ONCE);
    world.listen(puppet, World::address(puppet), route);
    puppet
}

fn add_liar(world: &mut World, plan: &LiarPlan) -> (HostId, Sharing) {
    let puppet = add_puppet(world);
    let tree = files(LIARS, &plan.files);
    let sharing = world.puppet_shares(puppet, tree);
    world.puppet_lies(puppet, plan.lie, plan.truths.into());
    (puppet, sharing)
}

fn add_stand_in(world: &mut World, plan: StandInPlan) {
    let puppet = match plan.lan {
        Some(_) => world.add_puppet(),
        None => add_puppet(world),
    };
    if let Some(lan) = plan.lan {
        world.set_lan(puppet, lan);
    }
    world.stand_in(puppet, plan.answers, plan.lan.is_none());
}

/// Content mark of malicious sharers' files.
pub(super) const LIARS: u64 = 1000;

/// A tree of files of these sizes. The same `mark` always gives the same content.
pub(super) fn files(mark: u64, sizes: &[u32]) -> Tree {
    let sizes = (0_u64..).zip(sizes);
    sizes.fold(Tree::new(), |tree, (at, size)| {
        let bytes = content(mark + at, usize::try_from(*size).unwrap_or_default());
        tree.file(&file_name(at), bytes)
    })
}

/// Name of a share's file with this index.
pub(super) fn file_name(at: u64) -> String {
    if at.is_multiple_of(3) {
        format!("file-{at:03}")
    } else {
        format!("folder/file-{at:03}")
    }
}

/// Records of hostile DHT nodes: addresses that must not be dialled, malicious peers, and a crowd of addresses.
fn planted(
    world: &World,
    liars: &[(HostId, Sharing)],
    attackers: &[HostId],
) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let bad = [
        "/ip4/127.0.0.1/tcp/22",
        "/ip4/0.0.0.0/tcp/80",
        "/ip4/169.254.1.1/tcp/80",
        "/ip4/224.0.0.1/udp/4000/quic-v1",
        "/ip4/255.255.255.255/tcp/1",
        "/ip4/8.8.8.8/tcp/0",
    ];
    let bad = bad.iter().map(|text| text.parse().expect("an address"));
    let liars = liars.iter().map(|(liar, _)| *liar);
    let puppets = liars.chain(attackers.iter().copied());
    let peers = puppets.map(|puppet| (world.peer(puppet), vec![World::address(puppet)]));
    let crowd = (0..3).map(|at| {
        let text = format!("/ip4/203.0.113.{at}/tcp/4000");
        text.parse().expect("an address")
    });
    // A peer that does not exist.
    let nobody = PeerId::from_bytes(&[0, 1, 9]).expect("an identity");
    peers
        .chain([(nobody, bad.chain(crowd).collect())])
        .collect()
}

/// Start of a run.
pub(super) const START: Time = Time::ZERO;
