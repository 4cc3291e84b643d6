//! Reduces a failing plan to a smaller one that fails in the same way.

use super::{
    ConflictPlan, FromPlan, HerePlan, LimitsPlan, PathPlan, Plan, Trouble, UserPlan, WayPlan,
};

/// Shrinks a plan: tries one simplification after the other, and keeps those after which it still `fails`. Stops when
/// none helps, or after `runs` tries. Returns the plan and the number of tries.
pub fn shrink(plan: Plan, runs: u32, mut fails: impl FnMut(&Plan) -> bool) -> (Plan, u32) {
    let mut best = plan;
    let mut tried = 0;
    loop {
        let mut better = None;
        for candidate in candidates(&best) {
            if tried >= runs {
                return (best, tried);
            }
            if candidate == best || candidate.fault().is_some() {
                continue;
            }
            tried += 1;
            if fails(&candidate) {
                better = Some(candidate);
                break;
            }
        }
        match better {
            Some(better) => best = better,
            None => return (best, tried),
        }
    }
}

/// Plans that are one step smaller, largest steps first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        found.push(candidate);
    };
    with(&|plan| plan.faults.clear());
    with(&|plan| plan.attackers.clear());
    with(&|plan| plan.stand_ins.clear());
    let half = plan.faults.len() / 2;
    if half > 0 {
        with(&|plan| plan.faults.truncate(half));
        with(&|plan| {
            plan.faults.drain(..half);
        });
    }
    for at in (0..plan.orders.len()).rev() {
        with(&|plan| remove_order(plan, at));
    }
    for at in (0..plan.liars.len()).rev() {
        with(&|plan| remove_liar(plan, at));
    }
    for at in (0..plan.shares.len()).rev() {
        with(&|plan| remove_share(plan, at));
    }
    for at in (0..plan.attackers.len()).rev() {
        with(&|plan| {
            plan.attackers.remove(at);
        });
    }
    for at in (0..plan.stand_ins.len()).rev() {
        with(&|plan| {
            plan.stand_ins.remove(at);
        });
    }
    for at in (0..plan.faults.len()).rev() {
        with(&|plan| {
            plan.faults.remove(at);
        });
    }
    for at in (0..plan.hosts.len()).rev() {
        with(&|plan| remove_host(plan, at));
    }
    simpler(plan, &mut with);
    found
}

/// Adds a change of the plan as another candidate.
type With<'a> = &'a mut dyn FnMut(&dyn Fn(&mut Plan));

fn simpler(plan: &Plan, with: With<'_>) {
    for at in 0..plan.hosts.len() {
        with(&|plan| plan.hosts[at].nat = None);
        with(&|plan| plan.hosts[at].punching = None);
        with(&|plan| plan.hosts[at].ways = vec![PLAIN]);
        with(&|plan| plan.hosts[at].ways.truncate(1));
        with(&|plan| {
            plan.hosts[at].ways.remove(0);
        });
        with(&|plan| plan.hosts[at].disk = 0);
        for way in 0..plan.hosts[at].ways.len() {
            with(&|plan| plan.hosts[at].ways[way].jitter = 0);
            with(&|plan| plan.hosts[at].ways[way].pieces = 0);
            with(&|plan| plan.hosts[at].ways[way].setup = 0);
            with(&|plan| plan.hosts[at].ways[way].rate = 0);
        }
    }
    with(&|plan| plan.limits = LARGE);
    with(&remove_relays);
    for at in 0..plan.shares.len() {
        simpler_share(plan, at, with);
    }
    for at in 0..plan.liars.len() {
        with(&|plan| plan.liars[at].files.truncate(1));
        with(&|plan| plan.liars[at].truths = 0);
        with(&|plan| plan.liars[at].files.iter_mut().for_each(|size| *size = 300));
    }
    for at in 0..plan.orders.len() {
        with(&|plan| plan.orders[at].user = UserPlan::Patient);
        with(&|plan| plan.orders[at].dht = false);
        with(&|plan| plan.orders[at].some = false);
        with(&|plan| plan.orders[at].short = false);
        with(&|plan| plan.orders[at].taken = false);
        with(&|plan| plan.orders[at].planted = false);
        with(&|plan| plan.orders[at].here = HerePlan::Nothing);
        with(&|plan| plan.orders[at].at = 0);
        with(&|plan| plan.orders[at].conflict = ConflictPlan::Rename);
    }
    for at in 0..plan.attackers.len() {
        with(&|plan| plan.attackers[at].times = 1);
        with(&|plan| plan.attackers[at].at = 1000);
    }
    with(&|plan| plan.heals_at = plan.heals_at / 2 + 1000);
}

fn simpler_share(plan: &Plan, at: usize, with: With<'_>) {
    with(&|plan| plan.shares[at].extras = false);
    with(&|plan| plan.shares[at].uses = 0);
    with(&|plan| plan.shares[at].short = false);
    with(&|plan| plan.shares[at].twins = false);
    with(&|plan| plan.shares[at].at = 0);
    let files = plan.shares[at].files.len();
    if files > 1 {
        with(&|plan| plan.shares[at].files.truncate(files / 2));
        with(&|plan| {
            plan.shares[at].files.drain(..files / 2);
        });
    }
    for file in 0..files.min(12) {
        with(&|plan| {
            plan.shares[at].files.remove(file);
        });
        with(&|plan| plan.shares[at].files[file] /= 2);
    }
    if plan.shares[at].pipe.is_some() {
        with(&|plan| plan.shares[at].pipe = plan.shares[at].pipe.map(|size| size / 2));
    }
}

/// The simplest address of a host.
const PLAIN: WayPlan = WayPlan {
    path: PathPlan::Direct,
    quic: false,
    delay: 10,
    jitter: 0,
    rate: 0,
    window: 64 << 10,
    pieces: 0,
    setup: 0,
};

/// Limits large enough not to matter.
const LARGE: LimitsPlan = LimitsPlan {
    window: 12,
    send_buffer: 6,
    requests: 24,
    segments: 32,
    disk_jobs: 6,
    search: 30,
};

/// The new index of an item after the one at `gone` is removed. `None` if it was that one.
fn renumber(number: u8, gone: usize) -> Option<u8> {
    match usize::from(number) {
        at if at == gone => None,
        at if at > gone => Some(number - 1),
        _ => Some(number),
    }
}

/// Keeps the items that still have an index.
fn keep<T>(list: &mut Vec<T>, mut renumber: impl FnMut(&mut T) -> Option<()>) {
    list.retain_mut(|item| renumber(item).is_some());
}

fn remove_order(plan: &mut Plan, gone: usize) {
    plan.orders.remove(gone);
    keep(&mut plan.faults, |fault| {
        if let Some(order) = fault.what.order_mut() {
            *order = renumber(*order, gone)?;
        }
        Some(())
    });
}

fn remove_liar(plan: &mut Plan, gone: usize) {
    plan.liars.remove(gone);
    while let Some(at) = plan
        .orders
        .iter()
        .position(|order| matches!(order.from, FromPlan::Liar(liar) if usize::from(liar) == gone))
    {
        remove_order(plan, at);
    }
    for order in &mut plan.orders {
        if let FromPlan::Liar(liar) = &mut order.from {
            *liar = renumber(*liar, gone).unwrap_or_default();
        }
    }
}

fn remove_share(plan: &mut Plan, gone: usize) {
    plan.shares.remove(gone);
    while let Some(at) = plan.orders.iter().position(
        |order| matches!(order.from, FromPlan::Share(share) if usize::from(share) == gone),
    ) {
        remove_order(plan, at);
    }
    for order in &mut plan.orders {
        if let FromPlan::Share(share) = &mut order.from {
            *share = renumber(*share, gone).unwrap_or_default();
        }
    }
    keep(&mut plan.attackers, |attacker| {
        attacker.share = renumber(attacker.share, gone)?;
        Some(())
    });
    keep(&mut plan.faults, |fault| {
        if let Some(share) = fault.what.share_mut() {
            *share = renumber(*share, gone)?;
        }
        Some(())
    });
}

fn remove_host(plan: &mut Plan, gone: usize) {
    plan.hosts.remove(gone);
    let uses = |host: u8| usize::from(host) == gone;
    while let Some(at) = plan.shares.iter().position(|share| uses(share.host)) {
        remove_share(plan, at);
    }
    while let Some(at) = plan.orders.iter().position(|order| uses(order.host)) {
        remove_order(plan, at);
    }
    for share in &mut plan.shares {
        share.host = renumber(share.host, gone).unwrap_or_default();
    }
    for order in &mut plan.orders {
        order.host = renumber(order.host, gone).unwrap_or_default();
    }
    keep(&mut plan.faults, |fault| {
        if let Some(host) = fault.what.host_mut() {
            *host = renumber(*host, gone)?;
        }
        Some(())
    });
}

/// Removes the relays, and everything that needs them.
fn remove_relays(plan: &mut Plan) {
    plan.relays.clear();
    for host in &mut plan.hosts {
        host.ways
            .retain(|way| !matches!(way.path, PathPlan::Relayed(_)));
        if host.ways.is_empty() {
            host.ways.push(PLAIN);
        }
    }
    plan.faults.retain(|fault| {
        !matches!(
            fault.what,
            Trouble::RelayGone { .. } | Trouble::RelayRefuses { .. }
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let plan = Plan::draw(11);
        let matters = |plan: &Plan| !plan.orders.is_empty() && plan.hosts.len() >= 2;
        assert!(matters(&plan));
        let (small, _) = shrink(plan, 100_000, matters);
        assert_eq!((small.hosts.len(), small.orders.len()), (2, 1));
        assert!(small.faults.is_empty() && small.attackers.is_empty() && small.liars.is_empty());
        assert_eq!(small.fault(), None);
    }

    #[test]
    fn whatever_is_removed_the_rest_can_be_run() {
        for seed in 0..200 {
            let plan = Plan::draw(seed);
            for candidate in candidates(&plan) {
                let empty = candidate.hosts.is_empty();
                let barred = candidate.hosts.iter().any(|host| host.ways.is_empty())
                    || candidate.liars.iter().any(|liar| liar.files.is_empty());
                assert!(
                    candidate.fault().is_none() || empty || barred,
                    "{:?}",
                    candidate.fault()
                );
            }
        }
    }
}
