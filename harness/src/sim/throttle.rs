//! Rate limits, priorities and pauses of shares, set by the plan's users during transfers.

use handover_core::engine::{Command, Limited, Priority, TransferId};

use super::{Act, Sim, millis};
use crate::ledger::{Fault, happened};
use crate::plan::Trouble;

impl Sim<'_> {
    /// Applies a user's change. Returns true if the fault was such a change.
    pub(super) fn throttle(&mut self, what: Trouble) -> bool {
        match what {
            Trouble::Limit { host, up, rate } => {
                let limited = if up { Limited::Up } else { Limited::Down };
                self.limit(usize::from(host), limited, rate);
            }
            Trouble::LimitShare { share, rate } => {
                if let Some((host, of)) = self.sharing(share.into()) {
                    self.limit(host, Limited::One(of), rate);
                }
            }
            Trouble::LimitOrder { order, rate } => {
                if let Some((host, of)) = self.fetching(order.into()) {
                    self.limit(host, Limited::One(of), rate);
                }
            }
            Trouble::PreferShare { share, priority } => {
                self.prefer(self.sharing(share.into()), priority);
            }
            Trouble::PreferOrder { order, priority } => {
                self.prefer(self.fetching(order.into()), priority);
            }
            Trouble::PauseShare { share, time } => {
                if self.pause(share.into(), true) {
                    happened(Fault::SharePaused);
                    self.plan_act(millis(time), Act::ShareGoesOn(share.into()));
                }
            }
            _ => return false,
        }
        true
    }

    fn limit(&mut self, host: usize, limited: Limited, rate: u32) {
        let rate = (rate > 0).then_some(rate.into());
        let command = Command::Limit { limited, rate };
        self.world.command(self.hosts[host], command);
    }

    fn prefer(&mut self, transfer: Option<(usize, TransferId)>, priority: Priority) {
        if let Some((host, of)) = transfer {
            happened(Fault::Preferred);
            let command = Command::Priority { of, priority };
            self.world.command(self.hosts[host], command);
        }
    }

    /// Pauses or resumes a share. Returns true if it is open.
    pub(super) fn pause(&mut self, at: usize, paused: bool) -> bool {
        let share = &self.shares[at];
        let Some(id) = share.id else {
            return false;
        };
        let command = if paused {
            Command::PauseShare { share: id }
        } else {
            Command::ResumeShare { share: id }
        };
        self.world.command(self.hosts[share.host], command);
        true
    }

    fn sharing(&self, at: usize) -> Option<(usize, TransferId)> {
        let share = &self.shares[at];
        Some((share.host, TransferId::Share(share.id?)))
    }

    fn fetching(&self, at: usize) -> Option<(usize, TransferId)> {
        let host = self.plan.orders[at].host;
        let download = self.orders[at].download?;
        Some((host.into(), TransferId::Download(download)))
    }

    /// Removes all rate limits and pauses.
    pub(super) fn lift_limits(&mut self) {
        for host in 0..self.hosts.len() {
            self.limit(host, Limited::Up, 0);
            self.limit(host, Limited::Down, 0);
        }
        for at in 0..self.shares.len() {
            self.pause(at, false);
        }
        let shares = (0..self.shares.len()).filter_map(|at| self.sharing(at));
        let orders = (0..self.orders.len()).filter_map(|at| self.fetching(at));
        let transfers: Vec<_> = shares.chain(orders).collect();
        for (host, of) in transfers {
            self.limit(host, Limited::One(of), 0);
        }
    }
}
