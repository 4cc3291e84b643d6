//! Random plans: drawn from a seed, or from a fuzzer's bytes.

use super::entropy::{Entropy, Stream};
use super::{
    Attack, AttackerPlan, ConflictPlan, Depends, DhtMood, FaultPlan, FromPlan, HerePlan, HostPlan,
    JobPlan, LiarPlan, Lie, LimitsPlan, NatPlan, OrderPlan, PathPlan, Plan, Priority, RelayPlan,
    SharePlan, StandIn, StandInPlan, Trouble, UserPlan, VERSION, WayPlan,
};

const GROUP: u32 = handover_core::limits::GROUP;

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64) -> Self {
        plan(seed, &mut Entropy::of_seed(seed))
    }

    /// Decodes a fuzzer's bytes into a plan. All byte strings are valid.
    pub fn decode(bytes: &[u8]) -> Self {
        let sum = bytes.iter().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
        });
        plan(sum, &mut Entropy::of_bytes(bytes))
    }
}

fn plan(seed: u64, from: &mut Entropy<'_>) -> Plan {
    from.turn_to(Stream::Topology);
    let limits = limits(from);
    let relays = many(from, 2, relay);
    // One network in five is calm and fast, so that users and peers decide what happens.
    let calm = from.one_in(5);
    let hosts: Vec<_> = (0..from.range(2, 4))
        .map(|_| host(from, relays.len(), calm))
        .collect();
    from.turn_to(Stream::Workload);
    let shares: Vec<_> = (0..from.range(1, 2))
        .map(|_| share(from, hosts.len()))
        .collect();
    from.turn_to(Stream::Peers);
    let liars = if from.one_in(3) {
        many(from, 2, liar)
    } else {
        Vec::new()
    };
    let attackers = if from.one_in(3) {
        many(from, 2, |from| attacker(from, shares.len()))
    } else {
        Vec::new()
    };
    from.turn_to(Stream::Users);
    let mut orders: Vec<_> = (0..from.range(1, 3))
        .map(|_| {
            let share = FromPlan::Share(from.index(shares.len()));
            order(from, hosts.len(), share)
        })
        .collect();
    for liar in 0..liars.len() {
        let liar = FromPlan::Liar(u8::try_from(liar).unwrap_or_default());
        orders.push(order(from, hosts.len(), liar));
    }
    from.turn_to(Stream::Faults);
    let heals_at = from.magnitude(2_000, 30_000);
    let mut plan = Plan {
        version: VERSION,
        seed,
        heals_at,
        limits,
        hosts,
        relays,
        shares,
        orders,
        liars,
        attackers,
        stand_ins: Vec::new(),
        faults: Vec::new(),
    };
    plan.faults = faults(from, &plan);
    for host in &mut plan.hosts {
        let punching = from.one_in(3);
        // Often before the first link has finished its handshake.
        host.punching = punching.then(|| short(from.magnitude(1, 2_000)));
    }
    if from.one_in(3) {
        for _ in 0..from.range(1, 4) {
            let (at, what) = (when(from, &plan), throttle(from, &plan));
            plan.faults.push(FaultPlan { at, what });
        }
        plan.faults.sort_by_key(|fault| fault.at);
    }
    known(from, &mut plan);
    from.turn_to(Stream::StandIns);
    // Exhausted fuzzer bytes draw zeros, which must mean no impostors.
    if from.below(4) == 3 {
        plan.stand_ins = (0..from.range(1, 6)).map(|_| stand_in(from)).collect();
    }
    plan
}

fn stand_in(from: &mut Entropy<'_>) -> StandInPlan {
    StandInPlan {
        answers: from.pick(StandIn::ALL),
        lan: from.one_in(3).then(|| byte(from.below(2))),
    }
}

/// Draws which of the fetched files are already present. Drawn last, from a stream of its own.
fn known(from: &mut Entropy<'_>, plan: &mut Plan) {
    from.turn_to(Stream::Known);
    for host in &mut plan.hosts {
        host.remembers = from.one_in(3);
        host.clashes = if from.one_in(4) {
            byte(from.range(1, 3))
        } else {
            0
        };
    }
    for share in &mut plan.shares {
        share.twins = from.one_in(3);
    }
    for host in 0..plan.hosts.len() {
        if plan.hosts[host].remembers && from.one_in(2) {
            let host = byte(u32::try_from(host).unwrap_or_default());
            let at = from.below(plan.heals_at);
            let what = Trouble::ChangeKnown { host };
            plan.faults.push(FaultPlan { at, what });
        }
    }
    plan.faults.sort_by_key(|fault| fault.at);
    let here = [HerePlan::Nothing, HerePlan::Same, HerePlan::Older];
    for order in &mut plan.orders {
        order.here = from.pick(&here);
    }
    for (at, liar) in plan.liars.iter_mut().enumerate() {
        if !from.one_in(6) {
            continue;
        }
        liar.lie = Lie::BadChunks;
        liar.files = vec![100 * GROUP; 2];
        let of = FromPlan::Liar(byte(u32::try_from(at).unwrap_or_default()));
        for order in plan.orders.iter_mut().filter(|order| order.from == of) {
            order.here = HerePlan::Older;
            order.conflict = ConflictPlan::Overwrite;
        }
    }
}

fn many<T>(from: &mut Entropy<'_>, most: u32, one: impl Fn(&mut Entropy<'_>) -> T) -> Vec<T> {
    (0..from.range(0, most)).map(|_| one(from)).collect()
}

fn byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn short(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn limits(from: &mut Entropy<'_>) -> LimitsPlan {
    LimitsPlan {
        window: byte(from.range(2, 12)),
        send_buffer: byte(from.range(1, 6)),
        requests: byte(from.range(2, 24)),
        segments: byte(from.range(1, 32)),
        disk_jobs: byte(from.range(1, 6)),
        search: byte(from.range(4, 30)),
    }
}

fn relay(from: &mut Entropy<'_>) -> RelayPlan {
    let bytes = if from.one_in(2) {
        0
    } else {
        from.magnitude(8 << 10, 128 << 10)
    };
    let time = if from.one_in(2) {
        0
    } else {
        from.magnitude(500, 20_000)
    };
    RelayPlan {
        bytes,
        time,
        each_way: bytes % 3 == 1,
        silent: bytes % 5 == 4,
        circuits: u8::from(bytes % 7 == 6) * 2,
    }
}

fn host(from: &mut Entropy<'_>, relays: usize, calm: bool) -> HostPlan {
    if from.one_in(4) {
        return host_of_two_ways(from, relays);
    }
    let mut ways = vec![
        way(from, PathPlan::Lan, calm),
        way(from, PathPlan::Direct, calm),
    ];
    if from.one_in(3) {
        ways.remove(0);
    }
    for relay in 0..relays {
        if from.one_in(2) {
            let path = PathPlan::Relayed(byte(u32::try_from(relay).unwrap_or_default()));
            ways.insert(0, way(from, path, calm));
        }
    }
    HostPlan {
        lan: byte(u32::from(from.one_in(3))),
        nat: from.one_in(4).then(|| nat(from)),
        ways,
        punching: None,
        disk: if calm { 20 } else { from.magnitude(10, 20_000) },
        remembers: false,
        clashes: 0,
    }
}

/// A host that is first found over a slow path, and over a fast one while files are already being transferred.
fn host_of_two_ways(from: &mut Entropy<'_>, relays: usize) -> HostPlan {
    let slow = if relays > 0 {
        PathPlan::Relayed(0)
    } else {
        PathPlan::Direct
    };
    let slow = WayPlan {
        quic: false,
        delay: short(from.range(30, 120)),
        setup: 0,
        ..way(from, slow, false)
    };
    let quick = if relays > 0 {
        PathPlan::Direct
    } else {
        PathPlan::Lan
    };
    let quick = WayPlan {
        quic: true,
        setup: short(from.below(800)),
        delay: short(from.range(1, 10)),
        ..way(from, quick, false)
    };
    HostPlan {
        lan: 0,
        nat: None,
        ways: vec![slow, quick],
        punching: None,
        disk: from.magnitude(10, 20_000),
        remembers: false,
        clashes: 0,
    }
}

fn nat(from: &mut Entropy<'_>) -> NatPlan {
    let depends = [
        Depends::EndpointIndependent,
        Depends::Address,
        Depends::AddressAndPort,
    ];
    let mapping = if from.one_in(3) {
        from.pick(&depends)
    } else {
        depends[0]
    };
    NatPlan {
        mapping,
        filtering: from.pick(&depends),
        expiry: short(from.magnitude(1, 60)),
    }
}

fn way(from: &mut Entropy<'_>, path: PathPlan, calm: bool) -> WayPlan {
    let far = path != PathPlan::Lan;
    let delay = match (calm, far) {
        (true, _) => from.range(0, 1),
        (_, false) => from.range(0, 3),
        _ if from.one_in(12) => 300,
        _ => from.range(1, 100),
    };
    let rate = match (calm, far) {
        (true, _) => 0,
        _ if from.one_in(10) => from.magnitude(8_000, 64_000),
        (_, false) => from.magnitude(64_000, 16_000_000),
        _ => from.magnitude(64_000, 1_000_000),
    };
    WayPlan {
        path,
        quic: from.one_in(3),
        delay: short(delay),
        jitter: short(from.below(delay / 4 + 1)),
        rate,
        window: from.magnitude(4 << 10, 64 << 10),
        pieces: if from.one_in(3) {
            short(from.magnitude(1 << 8, 1 << 14))
        } else {
            0
        },
        setup: if from.one_in(3) {
            short(from.below(2_000))
        } else {
            0
        },
    }
}

fn size(from: &mut Entropy<'_>) -> u32 {
    match from.below(8) {
        0 => 0,
        1 => from.range(1, 300),
        2 => GROUP * from.range(1, 3),
        3 | 4 => from.range(1, 3 * GROUP),
        _ => from.range(GROUP, 64 * GROUP),
    }
}

fn files(from: &mut Entropy<'_>) -> Vec<u32> {
    if from.one_in(6) {
        // Many small files, so that a request covers many of them.
        return (0..from.range(20, 80)).map(|_| from.below(400)).collect();
    }
    (0..from.range(1, 6)).map(|_| size(from)).collect()
}

fn share(from: &mut Entropy<'_>, hosts: usize) -> SharePlan {
    let host = from.index(hosts);
    let at = if from.one_in(6) { from.below(2_000) } else { 0 };
    let uses = if from.one_in(6) {
        byte(from.range(1, 2))
    } else {
        0
    };
    if from.one_in(6) {
        return SharePlan {
            host,
            at,
            uses,
            pipe: Some(size(from)),
            files: Vec::new(),
            extras: false,
            short: from.one_in(3),
            twins: false,
        };
    }
    SharePlan {
        host,
        at,
        uses,
        pipe: None,
        files: files(from),
        extras: from.one_in(3),
        short: from.one_in(3),
        twins: false,
    }
}

fn order(from: &mut Entropy<'_>, hosts: usize, source: FromPlan) -> OrderPlan {
    let conflicts = [
        ConflictPlan::Rename,
        ConflictPlan::Skip,
        ConflictPlan::Overwrite,
    ];
    let host = from.index(hosts);
    let at = from.below(1_500);
    OrderPlan {
        host,
        from: source,
        at,
        // Derived instead of drawn, so that plans from before this field existed stay the same.
        seeds: at.is_multiple_of(2),
        dht: from.one_in(4),
        short: from.one_in(2),
        to_pipe: from.one_in(12),
        some: from.one_in(5),
        conflict: from.pick(&conflicts),
        taken: from.one_in(5),
        planted: from.one_in(10),
        here: HerePlan::Nothing,
        user: user(from),
    }
}

fn user(from: &mut Entropy<'_>) -> UserPlan {
    match from.below(10) {
        6 => UserPlan::Dithers(from.magnitude(100, 20_000)),
        7 if from.one_in(2) => UserPlan::Declines,
        8 => UserPlan::Cancels(from.magnitude(1, 10_000)),
        9 => UserPlan::Pauses(from.magnitude(1, 5_000), from.magnitude(10, 10_000)),
        _ => UserPlan::Patient,
    }
}

fn liar(from: &mut Entropy<'_>) -> LiarPlan {
    let lie = match from.pick(Lie::DRAWN) {
        Lie::EvilPaths(_) => Lie::EvilPaths(byte(from.below(64))),
        lie => lie,
    };
    LiarPlan {
        lie,
        truths: if from.one_in(2) {
            short(from.below(20))
        } else {
            0
        },
        files: (0..from.range(1, 4)).map(|_| size(from).max(1)).collect(),
    }
}

fn attacker(from: &mut Entropy<'_>, shares: usize) -> AttackerPlan {
    AttackerPlan {
        attack: from.pick(Attack::ALL),
        share: from.index(shares),
        at: from.below(5_000),
        times: byte(from.range(1, 5)),
    }
}

fn faults(from: &mut Entropy<'_>, plan: &Plan) -> Vec<FaultPlan> {
    if from.one_in(8) {
        return Vec::new();
    }
    let mut faults: Vec<_> = (0..from.range(1, 7))
        .map(|_| FaultPlan {
            at: when(from, plan),
            what: trouble(from, plan),
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// Most faults strike soon after an order, while its download is in progress.
fn when(from: &mut Entropy<'_>, plan: &Plan) -> u32 {
    let at = if from.one_in(4) {
        from.magnitude(1, plan.heals_at)
    } else {
        let order = from.index(plan.orders.len());
        let begun = plan.orders.get(usize::from(order)).map(|order| order.at);
        begun.unwrap_or_default() + from.magnitude(8, 6_000)
    };
    at.min(plan.heals_at - 1)
}

fn trouble(from: &mut Entropy<'_>, plan: &Plan) -> Trouble {
    match from.below(4) {
        0 | 1 => network_trouble(from, plan),
        2 => host_trouble(from, plan),
        _ => disk_trouble(from, plan),
    }
}

fn network_trouble(from: &mut Entropy<'_>, plan: &Plan) -> Trouble {
    let host = from.index(plan.hosts.len());
    let time = from.magnitude(10, 20_000);
    let relay = from.index(plan.relays.len());
    match from.below(12) {
        0 => Trouble::Stall { host, time },
        1 => Trouble::Loss {
            host,
            time: time / 4,
        },
        2 => Trouble::Silence { host },
        3 => Trouble::Split {
            time,
            one_way: from.one_in(2),
        },
        4 => Trouble::Isolate { host, time },
        5 => Trouble::Rebind { host },
        6 => Trouble::Roam { host },
        7 if !plan.relays.is_empty() => Trouble::RelayGone { relay, time },
        8 if !plan.relays.is_empty() => Trouble::RelayRefuses { relay, time },
        9 | 10 => {
            let moods = [
                DhtMood::Empty,
                DhtMood::Stale,
                DhtMood::Hostile,
                DhtMood::Gone,
            ];
            let mood = from.pick(&moods);
            Trouble::Dht { mood, time }
        }
        _ => Trouble::Reset { host },
    }
}

fn host_trouble(from: &mut Entropy<'_>, plan: &Plan) -> Trouble {
    let host = from.index(plan.hosts.len());
    let time = from.magnitude(10, 20_000);
    match from.below(8) {
        0..=2 => Trouble::Crash { host, time },
        3 => Trouble::Shutdown { host, time },
        4 => Trouble::Sleep { host, time },
        5 => {
            let far = i32::try_from(from.magnitude(1, 100_000_000)).unwrap_or_default();
            let seconds = if from.one_in(2) { -far } else { far };
            Trouble::WallClock { host, seconds }
        }
        6 => Trouble::ClockBack {
            host,
            inputs: byte(from.range(1, 20)),
            by: short(from.magnitude(1, 5_000)),
        },
        _ => Trouble::Withdraw {
            share: from.index(plan.shares.len()),
        },
    }
}

fn disk_trouble(from: &mut Entropy<'_>, plan: &Plan) -> Trouble {
    let host = from.index(plan.hosts.len());
    let share = from.index(plan.shares.len());
    let file = byte(from.below(8));
    let time = from.magnitude(100, 10_000);
    match from.below(10) {
        0 => {
            let room = from.below(8 * GROUP);
            Trouble::DiskFull { host, room, time }
        }
        1 => Trouble::IoError {
            host,
            job: job(from),
        },
        2 => Trouble::ShortRead { host },
        3 if from.one_in(2) => Trouble::RotStaged {
            order: from.index(plan.orders.len()),
            byte: from.below(1 << 16),
        },
        3 => Trouble::Rot {
            share,
            file,
            byte: from.below(1 << 16),
        },
        4 => {
            let micros = from.magnitude(1_000, 500_000);
            Trouble::SlowDisk { host, micros, time }
        }
        5 => Trouble::RenameFails {
            host,
            times: byte(from.range(1, 5)),
        },
        6 => Trouble::NameTaken {
            order: from.index(plan.orders.len()),
            file,
        },
        7 => Trouble::RemoveFile { share, file },
        8 => Trouble::ChangeFile { share, file },
        _ => Trouble::Crash { host, time },
    }
}

/// Changes of rate limits and priorities by users. The lowest rates leave a transfer almost nothing.
fn throttle(from: &mut Entropy<'_>, plan: &Plan) -> Trouble {
    let host = from.index(plan.hosts.len());
    let share = from.index(plan.shares.len());
    let order = from.index(plan.orders.len());
    let lifted = from.one_in(6);
    let rate = from.magnitude(500, 200_000);
    let rate = if lifted { 0 } else { rate };
    let priority = from.pick(&[Priority::Low, Priority::Normal, Priority::High]);
    match from.below(8) {
        0 | 1 => Trouble::Limit {
            host,
            up: true,
            rate,
        },
        2 | 3 => Trouble::Limit {
            host,
            up: false,
            rate,
        },
        4 => Trouble::LimitShare { share, rate },
        5 => Trouble::LimitOrder { order, rate },
        6 if from.one_in(2) => Trouble::PreferShare { share, priority },
        6 => Trouble::PreferOrder { order, priority },
        _ => {
            let time = from.magnitude(100, 40_000);
            Trouble::PauseShare { share, time }
        }
    }
}

fn job(from: &mut Entropy<'_>) -> JobPlan {
    from.pick(&[
        JobPlan::Read,
        JobPlan::Write,
        JobPlan::Publish,
        JobPlan::Hash,
        JobPlan::Scan,
        JobPlan::Inspect,
        JobPlan::Stage,
        JobPlan::Finish,
    ])
}
