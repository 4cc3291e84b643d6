//! Checks that a plan can be run. Drawn plans are always valid; files may have any content.

use super::{FromPlan, PathPlan, Plan, Trouble};

/// Maximum size of a file or pipe, in bytes, so that a run ends soon.
const MOST_BYTES: u32 = 64 << 20;
/// Maximum number of items in each list.
const MOST: usize = 200;

impl Plan {
    /// Why the plan can't be run, or `None` if it can.
    pub fn fault(&self) -> Option<String> {
        self.check().err()
    }

    fn check(&self) -> Result<(), String> {
        let limits = &self.limits;
        let least = [
            limits.window,
            limits.send_buffer,
            limits.requests,
            limits.segments,
            limits.disk_jobs,
            limits.search,
        ];
        if least.contains(&0) {
            return Err("a limit of zero lets nothing happen".into());
        }
        if self.hosts.is_empty() {
            return Err("there are no hosts".into());
        }
        let lists = [
            ("hosts", self.hosts.len()),
            ("relays", self.relays.len()),
            ("shares", self.shares.len()),
            ("orders", self.orders.len()),
            ("liars", self.liars.len()),
            ("attackers", self.attackers.len()),
            ("stand-ins", self.stand_ins.len()),
            ("faults", self.faults.len()),
        ];
        if let Some((what, many)) = lists.iter().find(|(_, many)| *many > MOST) {
            return Err(format!("{many} {what}, and {MOST} are the most"));
        }
        self.check_hosts()?;
        self.check_shares()?;
        self.check_orders()?;
        for (at, fault) in self.faults.iter().enumerate() {
            self.check_trouble(fault.what)
                .map_err(|why| format!("fault {at} {why}"))?;
        }
        Ok(())
    }

    fn check_hosts(&self) -> Result<(), String> {
        for (at, host) in self.hosts.iter().enumerate() {
            if host.ways.is_empty() {
                return Err(format!("host {at} has no way to it"));
            }
            for way in &host.ways {
                if let PathPlan::Relayed(relay) = way.path {
                    named("relay", relay, self.relays.len())
                        .map_err(|why| format!("host {at} {why}"))?;
                }
                if way.window == 0 {
                    return Err(format!("a way to host {at} has no window"));
                }
            }
        }
        Ok(())
    }

    fn check_shares(&self) -> Result<(), String> {
        for (at, share) in self.shares.iter().enumerate() {
            named("host", share.host, self.hosts.len())
                .map_err(|why| format!("share {at} {why}"))?;
            let sizes = share.files.iter().chain(&share.pipe);
            check_sizes(sizes).map_err(|why| format!("share {at} {why}"))?;
        }
        for (at, liar) in self.liars.iter().enumerate() {
            if liar.files.is_empty() {
                return Err(format!("liar {at} has no files"));
            }
            check_sizes(liar.files.iter()).map_err(|why| format!("liar {at} {why}"))?;
        }
        for (at, attacker) in self.attackers.iter().enumerate() {
            named("share", attacker.share, self.shares.len())
                .map_err(|why| format!("attacker {at} {why}"))?;
        }
        Ok(())
    }

    fn check_orders(&self) -> Result<(), String> {
        for (at, order) in self.orders.iter().enumerate() {
            let of = |why| format!("order {at} {why}");
            named("host", order.host, self.hosts.len()).map_err(of)?;
            match order.from {
                FromPlan::Share(share) => named("share", share, self.shares.len()),
                FromPlan::Liar(liar) => named("liar", liar, self.liars.len()),
            }
            .map_err(of)?;
        }
        Ok(())
    }

    fn check_trouble(&self, mut what: Trouble) -> Result<(), String> {
        if let Some(host) = what.host_mut() {
            named("host", *host, self.hosts.len())?;
        }
        if let Some(share) = what.share_mut() {
            named("share", *share, self.shares.len())?;
        }
        if let Some(order) = what.order_mut() {
            named("order", *order, self.orders.len())?;
        }
        match what {
            Trouble::RelayGone { relay, .. } | Trouble::RelayRefuses { relay, .. } => {
                named("relay", relay, self.relays.len())
            }
            _ => Ok(()),
        }
    }
}

fn named(what: &str, number: u8, many: usize) -> Result<(), String> {
    if usize::from(number) < many {
        Ok(())
    } else {
        Err(format!(
            "names {what} {number}, and there are {many}, counted from 0"
        ))
    }
}

fn check_sizes<'a>(mut sizes: impl Iterator<Item = &'a u32>) -> Result<(), String> {
    match sizes.find(|size| **size > MOST_BYTES) {
        Some(size) => Err(format!(
            "has {size} bytes in one file, and {MOST_BYTES} are the most"
        )),
        None => Ok(()),
    }
}
