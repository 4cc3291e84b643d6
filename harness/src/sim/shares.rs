//! The plan's shares: created, lost with their host, created again, withdrawn.

use std::collections::BTreeSet;
use std::time::Duration;

use handover_core::code::{ShortCode, Ticket};
use handover_core::engine::{Command, Event, ShareEnd, ShareId, Short};
use handover_core::secret::ShareSecret;

use super::setup::{file_name, files};
use super::{ASLEEP, Act, Sim};
use crate::disk::SourceKind;
use crate::plan::{FromPlan, SharePlan};
use crate::tree::{Tree, content};
use crate::world::Offering;

/// A share, across all restarts of its host.
pub(super) struct Share {
    pub(super) host: usize,
    pub(super) secret: ShareSecret,
    pub(super) uses: u8,
    /// The content to share. While the share is open, the host's disk has the current one.
    pub(super) kind: SourceKind,
    /// Its id on the running host.
    pub(super) id: Option<ShareId>,
    pub(super) ticket: Option<Ticket>,
    /// Its short code, once created. `wrong` is the number of wrong guesses.
    pub(super) short: Option<ShortCode>,
    pub(super) wrong: u32,
    /// True if it has a short code.
    has_short: bool,
    /// True if it will not be created again.
    pub(super) over: bool,
    /// True if some of its files may fail.
    pub(super) spoilt: bool,
    /// Number of wrong guesses counted since the host's last restart.
    heard_wrong: u32,
    /// Files with bit rot, each flipped once.
    pub(super) rotten: BTreeSet<String>,
}

impl Share {
    pub(super) fn new(at: usize, plan: &SharePlan, secret: ShareSecret) -> Self {
        let mark = 100 * (at as u64 + 1);
        let kind = match plan.pipe {
            Some(size) => SourceKind::Pipe(content(mark, size as usize)),
            None => SourceKind::Tree(tree(mark, plan)),
        };
        Self {
            host: plan.host.into(),
            secret,
            uses: plan.uses,
            kind,
            id: None,
            ticket: None,
            short: None,
            wrong: 0,
            has_short: plan.short,
            over: false,
            spoilt: false,
            heard_wrong: 0,
            rotten: BTreeSet::new(),
        }
    }

    pub(super) fn is_pipe(&self) -> bool {
        matches!(self.kind, SourceKind::Pipe(_))
    }

    /// True if nothing can be fetched from it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.kind, SourceKind::Tree(tree) if tree.iter().next().is_none())
    }
}

fn tree(mark: u64, plan: &SharePlan) -> Tree {
    let mut tree = files(mark, &plan.files);
    if plan.twins {
        for at in (1..plan.files.len() as u64).step_by(2) {
            let before = tree.bytes(&file_name(at - 1)).cloned().unwrap_or_default();
            tree = tree.file(&file_name(at), before);
        }
    }
    if plan.extras {
        tree.folder("empty folder").symlink("link", "empty folder")
    } else {
        tree
    }
}

impl Sim<'_> {
    /// Creates a share, if its host is running and the share is not open.
    pub(super) fn open(&mut self, at: usize) {
        let share = &self.shares[at];
        let host = self.hosts[share.host];
        if share.over || share.id.is_some() || !self.world.is_running(host) {
            return;
        }
        if !self.world.is_awake(host) {
            return self.plan_act(ASLEEP, Act::Open(at));
        }
        let mut offering = Offering::of(share.kind.clone()).with_secret(share.secret.clone());
        offering.options.dht = self.is_sought(at);
        offering.options.uses = (share.uses > 0).then_some(share.uses.into());
        offering.options.short = match &share.short {
            _ if !share.has_short => Short::None,
            None => Short::New,
            Some(code) => Short::Again {
                code: code.clone(),
                wrong: share.wrong,
            },
        };
        let (id, ticket) = self.world.share_with(host, offering);
        let share = &mut self.shares[at];
        share.id = Some(id);
        share.ticket = Some(ticket);
    }

    /// True if an order looks for the share in the DHT.
    fn is_sought(&self, at: usize) -> bool {
        let mut orders = self.plan.orders.iter();
        orders.any(|order| {
            order.dht && matches!(order.from, FromPlan::Share(from) if usize::from(from) == at)
        })
    }

    pub(super) fn withdraw(&mut self, at: usize) {
        let host = self.hosts[self.shares[at].host];
        if let Some(share) = self.shares[at].id {
            crate::ledger::happened(crate::ledger::Fault::Withdrawn);
            self.world.command(host, Command::Unshare { share });
        }
        self.shares[at].over = true;
    }

    /// Closes the shares of a host that is gone. They are created again after its restart, except for pipes.
    pub(super) fn lose_shares(&mut self, host: usize) {
        for share in self.shares.iter_mut().filter(|share| share.host == host) {
            share.heard_wrong = 0;
            if let Some(id) = share.id.take() {
                share.kind = self.world.disk(self.hosts[host]).shared_now(id).clone();
                share.over |= share.is_pipe();
            }
        }
    }

    /// Processes shares that have ended or changed their addresses.
    pub(super) fn hear_shares(&mut self) {
        for at in 0..self.shares.len() {
            self.hear_share(at);
        }
    }

    pub(super) fn hear_share(&mut self, at: usize) {
        let share = &self.shares[at];
        let Some(id) = share.id else {
            return;
        };
        let host = self.hosts[share.host];
        let mut ended = None;
        let mut wrong = 0;
        let mut ticket = None;
        for event in self.world.events(host).iter().rev() {
            match event {
                Event::ShareEnded { share, reason } if *share == id => ended = Some(reason.clone()),
                Event::ShareOpen {
                    share,
                    ticket: new,
                    short,
                } if *share == id && ticket.is_none() => {
                    ticket = Some((new.clone(), short.clone()))
                }
                Event::WrongWords { share, .. } if *share == id => wrong += 1,
                _ => {}
            }
        }
        let share = &mut self.shares[at];
        if let Some((ticket, short)) = ticket {
            share.ticket = Some(ticket);
            share.short = share.short.take().or(short);
        }
        share.wrong += wrong - share.heard_wrong;
        share.heard_wrong = wrong;
        match ended {
            // Its user tries again.
            Some(ShareEnd::Failed(_)) if !share.is_empty() => {
                share.kind = self.world.disk(host).shared_now(id).clone();
                share.id = None;
                share.heard_wrong = 0;
                self.plan_act(Duration::from_secs(1), Act::Open(at));
            }
            // A program that is shut down cleanly recreates its shares when it is started again.
            Some(ShareEnd::Stopped) if !share.over => {}
            Some(_) => share.over = true,
            None => {}
        }
    }
}
