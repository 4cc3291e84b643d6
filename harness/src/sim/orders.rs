//! The plan's orders: downloads and their users. A user whose download fails tries again.

use std::time::Duration;

use bytes::Bytes;
use handover_core::engine::{
    AcceptTerms, Command, DownloadId, DownloadOutcome, DownloadSummary, Event, FetchKey,
    FetchOptions, FetchSource, OnConflict, SinkKind,
};
use handover_core::limits::GROUP;

use super::setup::{LIARS, file_name, files};
use super::{ASLEEP, Act, Sim, millis};
use crate::disk::{Leftover, SourceKind};
use crate::ledger::{Fault, happened, promise};
use crate::plan::{AttackerPlan, ConflictPlan, FromPlan, HerePlan, OrderPlan, UserPlan};
use crate::tree::{Tree, content};
use crate::world::{Answer, Fetch};

/// Maximum number of attempts before all faults end.
const PATIENCE: u64 = 6;

/// An order, across all its downloads.
#[derive(Default)]
pub(super) struct Order {
    /// The download in progress.
    pub(super) download: Option<DownloadId>,
    /// Number of downloads so far.
    pub(super) attempts: u64,
    /// Number of downloads since all faults ended.
    pub(super) attempts_in_health: u64,
    /// Content of its folder, once that was created.
    pub(super) folder: Option<Tree>,
    /// Data that its downloads left for the next one.
    pub(super) leftover: Leftover,
    /// Content bytes received over all its downloads. `cuts` is the number of times that one was cut short or lost a
    /// link.
    pub(super) came: u64,
    /// Bytes that the largest of its downloads wanted.
    pub(super) wanted: u64,
    pub(super) cuts: u64,
    /// Byte whose bit flips in the data that the current download leaves.
    pub(super) rots: Option<usize>,
    /// True if a bit has flipped: some content must be fetched again.
    pub(super) is_rotten: bool,
    /// True if the user wants nothing more: the download is complete, or they gave up.
    pub(super) settled: bool,
    /// True if the user has declined or cancelled.
    pub(super) unwanted: bool,
}

/// An action of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UserAct {
    Accept,
    Cancel,
    Pause,
    GoOn,
}

impl Sim<'_> {
    /// Places an order.
    pub(super) fn order(&mut self, at: usize) {
        let plan = &self.plan.orders[at];
        let host_at = usize::from(plan.host);
        let host = self.hosts[host_at];
        let order = &self.orders[at];
        if order.settled || order.download.is_some() || !self.world.is_running(host) {
            return;
        }
        if !self.world.is_awake(host) {
            return self.plan_act(ASLEEP, Act::Order(at));
        }
        let Some(source) = self.source(at) else {
            // The sharer has no code yet.
            if !self.orders[at].settled {
                self.plan_act(Duration::from_millis(500), Act::Order(at));
            }
            return;
        };
        let again = self.orders[at].attempts > 0;
        let fetch = self.fetch(at, again);
        let download = self.world.fetch_from(host, source, fetch);
        let order = &mut self.orders[at];
        order.download = Some(download);
        order.attempts += 1;
        order.attempts_in_health += u64::from(self.healed);
        let attempt = order.attempts;
        if !again {
            self.plan_user(at, attempt);
        }
        self.hear_order(at);
    }

    /// The source for an order, if there is one yet.
    fn source(&mut self, at: usize) -> Option<FetchSource> {
        let plan = &self.plan.orders[at];
        match plan.from {
            FromPlan::Liar(liar) => {
                let ticket = &self.liars[usize::from(liar)].1.ticket;
                Some(FetchSource {
                    peer: Some(ticket.peer),
                    addresses: ticket.addresses.clone(),
                    key: FetchKey::Secret(ticket.secret.clone()),
                })
            }
            FromPlan::Share(share) => {
                self.hear_share(share.into());
                let share = &self.shares[usize::from(share)];
                let Some(ticket) = &share.ticket else {
                    self.orders[at].settled |= share.over;
                    return None;
                };
                if let (Some(code), true, false) = (&share.short, plan.short, self.healed) {
                    happened(Fault::ShortCode);
                    return Some(FetchSource {
                        peer: None,
                        addresses: Vec::new(),
                        key: FetchKey::Short(code.clone()),
                    });
                }
                let addresses = if plan.dht && !self.healed {
                    Vec::new()
                } else {
                    ticket.addresses.clone()
                };
                Some(FetchSource {
                    peer: Some(ticket.peer),
                    addresses,
                    key: FetchKey::Secret(ticket.secret.clone()),
                })
            }
        }
    }

    fn fetch(&self, at: usize, again: bool) -> Fetch {
        let plan = &self.plan.orders[at];
        let order = &self.orders[at];
        let on_conflict = match plan.conflict {
            // Do not fetch again what is already present.
            _ if again => OnConflict::Skip,
            ConflictPlan::Rename => OnConflict::Rename,
            ConflictPlan::Skip => OnConflict::Skip,
            ConflictPlan::Overwrite => OnConflict::Overwrite,
        };
        let entries = self.entries(plan.from);
        let terms = AcceptTerms {
            select: plan.some.then(|| (0..entries).step_by(2).collect()),
            on_conflict,
            executables: true,
        };
        let answer = match plan.user {
            UserPlan::Declines if !again => Answer::Decline,
            UserPlan::Dithers(_) if !again => Answer::Wait,
            _ => Answer::Accept(terms),
        };
        Fetch {
            sink: if plan.to_pipe {
                SinkKind::Pipe
            } else {
                SinkKind::Folder
            },
            existing: order.folder.clone().unwrap_or_else(|| self.existing(plan)),
            leftover: order.leftover.clone(),
            answer,
            options: FetchOptions {
                dht: plan.dht,
                seed: plan.seeds,
                ..FetchOptions::default()
            },
        }
    }

    /// Initial content of an order's folder.
    fn existing(&self, plan: &OrderPlan) -> Tree {
        let mut tree = existing(plan);
        let shared = match plan.from {
            FromPlan::Liar(liar) => files(LIARS, &self.plan.liars[usize::from(liar)].files),
            FromPlan::Share(share) => match &self.shares[usize::from(share)].kind {
                SourceKind::Tree(tree) => tree.clone(),
                SourceKind::Pipe(_) => Tree::new(),
            },
        };
        let there = shared
            .iter()
            .filter(|(path, _)| !(plan.planted && path.starts_with("folder")));
        for (path, _) in there.step_by(2) {
            let Some(bytes) = shared.bytes(path) else {
                continue;
            };
            tree = match plan.here {
                HerePlan::Nothing => tree,
                HerePlan::Same => tree.file(path, bytes.clone()),
                HerePlan::Older => tree.file(path, older(bytes)),
            };
        }
        tree
    }

    /// Number of entries of a share.
    fn entries(&self, from: FromPlan) -> u32 {
        let entries = match from {
            FromPlan::Liar(liar) => {
                let manifest = self.liars[usize::from(liar)].1.manifest.manifest();
                manifest.entries().len()
            }
            FromPlan::Share(share) => match &self.shares[usize::from(share)].kind {
                SourceKind::Tree(tree) => tree.iter().count(),
                SourceKind::Pipe(_) => 1,
            },
        };
        u32::try_from(entries).unwrap_or(u32::MAX)
    }

    /// Schedules what an order's user does besides waiting.
    fn plan_user(&mut self, at: usize, attempt: u64) {
        let user = self.plan.orders[at].user;
        let mut act = |after: u32, act| self.plan_act(millis(after), Act::User(at, attempt, act));
        match user {
            UserPlan::Patient | UserPlan::Declines => {}
            UserPlan::Dithers(time) => act(time, UserAct::Accept),
            UserPlan::Cancels(after) => act(after, UserAct::Cancel),
            UserPlan::Pauses(after, time) => {
                act(after, UserAct::Pause);
                act(after.saturating_add(time), UserAct::GoOn);
            }
        }
    }

    pub(super) fn user_acts(&mut self, at: usize, attempt: u64, act: UserAct) {
        let order = &self.orders[at];
        let (Some(download), true) = (order.download, order.attempts == attempt) else {
            return;
        };
        let host = self.hosts[usize::from(self.plan.orders[at].host)];
        match act {
            UserAct::Accept => {
                let offered = |event: &Event| matches!(event, Event::Offer { download: offered, .. } if *offered == download);
                if !self.world.events(host).iter().any(offered) {
                    // Nothing to accept yet: check again later.
                    let again = Act::User(at, attempt, UserAct::Accept);
                    return self.plan_act(Duration::from_millis(700), again);
                }
                happened(Fault::Dither);
                let Answer::Accept(terms) = self.fetch(at, true).answer else {
                    return;
                };
                let accept = Command::Accept { download, terms };
                self.world.command(host, accept);
            }
            UserAct::Cancel => {
                happened(Fault::Cancel);
                self.orders[at].unwanted = true;
                self.world.command(host, Command::Cancel { download });
            }
            UserAct::Pause => {
                happened(Fault::Pause);
                self.world.command(host, Command::Pause { download });
            }
            UserAct::GoOn => self.world.command(host, Command::Resume { download }),
        }
        self.hear_order(at);
    }

    /// Processes downloads that have ended.
    pub(super) fn hear_orders(&mut self) {
        for at in 0..self.orders.len() {
            self.hear_order(at);
        }
    }

    fn hear_order(&mut self, at: usize) {
        let host = self.hosts[usize::from(self.plan.orders[at].host)];
        let Some(download) = self.orders[at].download else {
            return;
        };
        let Some(outcome) = self.world.outcome(host, download).cloned() else {
            return;
        };
        self.take_folder(at, download);
        match outcome {
            DownloadOutcome::Completed(summary) => {
                self.judge_summary(at, download, &summary);
                self.orders[at].settled = true;
            }
            DownloadOutcome::Declined => {
                happened(Fault::Decline);
                self.orders[at].unwanted = true;
                self.orders[at].settled = true;
            }
            DownloadOutcome::Cancelled if self.orders[at].unwanted => {
                self.orders[at].settled = true;
            }
            DownloadOutcome::Cancelled
            | DownloadOutcome::Suspended
            | DownloadOutcome::Failed(_) => self.try_again(at),
        }
    }

    /// Takes back the folder of a download that has ended in any way.
    pub(super) fn take_folder(&mut self, at: usize, download: DownloadId) {
        let plan = &self.plan.orders[at];
        let disk = self.world.disk(self.hosts[usize::from(plan.host)]);
        disk.look_at_folder(download);
        let folder = disk.folder(download).clone();
        let leftover = disk.leftover(download);
        let host = self.hosts[usize::from(plan.host)];
        let (came, losses) = self.world.fetched_again(host, download, 0);
        let wanted = Counted::of(self.world.events(host), download).bytes;
        let order = &mut self.orders[at];
        order.wanted = order.wanted.max(wanted);
        order.came += came;
        order.cuts += losses + 1;
        order.leftover = leftover;
        if let Some(byte) = order.rots.take() {
            order.is_rotten |= order.leftover.rot(byte);
        }
        order.folder = Some(folder);
        order.download = None;
    }

    /// Retries after a failed download.
    pub(super) fn try_again(&mut self, at: usize) {
        let order = &mut self.orders[at];
        let from_liar = matches!(self.plan.orders[at].from, FromPlan::Liar(_));
        let gave_up = !self.healed && order.attempts >= PATIENCE;
        let no_use = self.healed && order.attempts_in_health >= 3;
        order.settled |= from_liar || order.unwanted || no_use;
        if !order.settled && !gave_up {
            self.plan_act(Duration::from_secs(1), Act::Order(at));
        }
    }

    /// True if others may fetch the same share. A pipe goes to the first receiver that asks.
    pub(super) fn others_want_it(&self, from: FromPlan) -> bool {
        let orders = self.plan.orders.iter().filter(|order| order.from == from);
        let attacked = |attacker: &AttackerPlan| from == FromPlan::Share(attacker.share);
        orders.count() > 1 || self.plan.attackers.iter().any(attacked)
    }

    /// Checks the summary of a completed download.
    fn judge_summary(&self, at: usize, download: DownloadId, summary: &DownloadSummary) {
        let plan = &self.plan.orders[at];
        let host = self.hosts[usize::from(plan.host)];
        let count = Counted::of(self.world.events(host), download);
        let told = (summary.files, summary.skipped, summary.failed);
        promise!(
            Accounted,
            summary.files >= count.done
                && summary.skipped == count.skipped
                && summary.failed == count.failed,
            "the summary says {told:?} and the events {count:?}"
        );
        promise!(
            Accounted,
            count.done + count.late + count.failed == count.wanted,
            "{} files were wanted, and these came of it: {count:?}",
            count.wanted
        );
        let whole =
            !plan.to_pipe || summary.failed > 0 || self.world.disk(host).pipe_is_whole(download);
        promise!(
            Verified,
            whole,
            "a pipe is said to be through, and is not what was shared"
        );
        promise!(
            Spared,
            count.kept > 0 || count.delivered + summary.spared >= summary.bytes,
            "{} bytes are there, of which {} came and {} were said to be here already",
            summary.bytes,
            count.delivered,
            summary.spared
        );
        let FromPlan::Share(share) = plan.from else {
            return;
        };
        let share = &self.shares[usize::from(share)];
        let explained = share.spoilt
            || plan.planted
            || self.troubled.contains(&usize::from(plan.host))
            || self.troubled.contains(&share.host)
            || (share.is_pipe() && self.others_want_it(plan.from));
        promise!(
            Accounted,
            count.failed == 0 || explained,
            "{} files failed, and nothing was wrong with them",
            count.failed
        );
        let needed = count.bytes.saturating_sub(count.kept);
        let (again, losses) = self.world.fetched_again(host, download, needed);
        let window = self.plan.limits.limits().window + 2 * u64::from(GROUP);
        // Wrongly reused data is fetched again, together with what was fetched beside it.
        let clashed = self.plan.hosts[usize::from(plan.host)].clashes > 0;
        // Data that the previous run left may have bit rot, or the disk may fail to read it.
        let is_rotten = self.orders[at].is_rotten;
        let is_troubled = self.troubled.contains(&usize::from(plan.host));
        let kept_in_vain = count.kept > 0 && (is_rotten || is_troubled);
        promise!(
            Frugal,
            again <= losses * window || share.spoilt || clashed || kept_in_vain,
            "{again} bytes came again, and {losses} links were lost"
        );
        let order = &self.orders[at];
        let again = order.came.saturating_sub(order.wanted);
        promise!(
            Frugal,
            plan.to_pipe
                || share.is_pipe()
                || explained
                || clashed
                || is_rotten
                || again <= order.cuts * 2 * window,
            "{again} bytes came again over {} downloads, which were cut short {} times",
            order.attempts,
            order.cuts
        );
    }
}

/// Totals of a download according to its events.
#[derive(Debug, Default)]
struct Counted {
    wanted: u64,
    /// Size of the selected files, in bytes, as far as known.
    bytes: u64,
    /// Bytes kept from an earlier run.
    kept: u64,
    /// Bytes delivered by peers.
    delivered: u64,
    done: u64,
    skipped: u64,
    /// Number of files skipped after the transfer had begun.
    late: u64,
    failed: u64,
}

impl Counted {
    fn of(events: &[Event], id: DownloadId) -> Self {
        let mut count = Self::default();
        let mut begun = false;
        for event in events {
            match event {
                Event::Progress { download, progress } if *download == id => {
                    // The first progress event precedes all requests.
                    if !std::mem::replace(&mut begun, true) {
                        let unread = progress.checking.map_or(0, |of| of.total - of.done);
                        count.kept = progress.done + unread;
                        count.done = count.done.max(progress.files_done);
                    }
                    count.bytes = count.bytes.max(progress.total.unwrap_or_default());
                    count.wanted = count.wanted.max(progress.files_total);
                }
                Event::FileDone { download, .. } if *download == id => count.done += 1,
                Event::FileSkipped { download, .. } if *download == id => {
                    count.skipped += 1;
                    count.late += u64::from(begun);
                }
                Event::FileFailed { download, .. } if *download == id => count.failed += 1,
                Event::Delivered {
                    download, bytes, ..
                } if *download == id => count.delivered += bytes,
                _ => {}
            }
        }
        count
    }
}

/// Initial content of an order's folder, independent of the share.
fn existing(plan: &OrderPlan) -> Tree {
    let mut tree = Tree::new();
    if plan.taken {
        tree = tree.file(&file_name(0), content(7, 77));
    }
    if plan.planted {
        tree = tree.symlink("folder", "..");
    }
    tree
}

/// An older version of a file: a few bytes differ, and in some versions a few were inserted since.
fn older(bytes: &Bytes) -> Bytes {
    let mut old = bytes.to_vec();
    let middle = old.len() / 2;
    if old.len().is_multiple_of(2) {
        old.drain(middle..(middle + 100).min(bytes.len()));
    }
    if let Some(byte) = old.get_mut(middle / 2) {
        *byte ^= 1;
    }
    old.into()
}
