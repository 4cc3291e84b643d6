//! Ways from the path in use to a better one: addresses that the sharer tells over a relay, and connections that came up by
//! themselves.

use std::time::Duration;

use super::super::context::Context;
use super::super::{DialId, DownloadId, PathKind};
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// So many connections that came up by themselves are followed at once if none of them is of use; then one in a while.
const IN_VAIN: u32 = 8;
const REST: Duration = Duration::from_secs(1);

/// How often connections were followed that came up by themselves.
#[derive(Debug, Default)]
pub(super) struct Followed {
    times: u32,
    last: Time,
}

impl Followed {
    /// Whether one more may be. Without a bound a link over a worse connection, closed as it is of no use, leads to the next
    /// connection and the next link.
    pub(super) fn follow(&mut self, now: Time) -> bool {
        if self.times >= IN_VAIN && now < self.last + REST {
            return false;
        }
        self.times += 1;
        self.last = now;
        true
    }
}

/// How a better path may be come by: each way is tried once at a time, and once more if there was news meanwhile.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    /// Where the peer says that it can be dialled without a relay.
    told: Vec<Multiaddr>,
    dials: Attempt,
    /// Connections that came up by themselves.
    paths: Attempt,
    followed: Followed,
}

/// One way.
#[derive(Debug, Default)]
struct Attempt {
    dial: Option<DialId>,
    again: bool,
}

impl Attempt {
    /// Whether it may begin now; if not, it is begun again after.
    fn begin(&mut self) -> bool {
        self.again = self.dial.is_some();
        !self.again
    }

    /// Whether that was its dial, and it is to be begun again.
    fn over(&mut self, dial: DialId) -> bool {
        let ours = self.dial.take_if(|own| *own == dial).is_some();
        ours && std::mem::take(&mut self.again)
    }
}

impl Upgrade {
    /// A link came up, by whatever dial: if that was one of these, it is over. What comes later is weighed anew.
    pub(super) fn came(&mut self, path: PathKind) {
        if path != PathKind::Relayed {
            *self = Self::default();
        }
    }

    /// The sharer says where it can be dialled.
    pub(super) fn told(
        &mut self,
        cx: &mut Context,
        of: DownloadId,
        sharer: PeerId,
        at: Vec<Multiaddr>,
    ) {
        if !at.is_empty() && at != self.told {
            self.told = at;
            self.dial_told(cx, of, sharer);
        }
    }

    /// A connection to the sharer came up by itself, and is better than what is in use: a link is opened over it.
    pub(super) fn path(&mut self, cx: &mut Context, of: DownloadId, sharer: PeerId) {
        if self.paths.begin() && self.followed.follow(cx.now) {
            self.paths.dial = Some(cx.dial(of, Some(sharer), Vec::new()));
        }
    }

    /// A dial has come to nothing: what was learnt meanwhile is tried, if a better path is still wanted of the sharer.
    pub(super) fn over(
        &mut self,
        cx: &mut Context,
        of: DownloadId,
        dial: DialId,
        wanted_of: Option<PeerId>,
    ) {
        let told = self.dials.over(dial);
        let paths = self.paths.over(dial);
        let Some(sharer) = wanted_of else {
            return;
        };
        if told {
            self.dial_told(cx, of, sharer);
        }
        if paths {
            self.path(cx, of, sharer);
        }
    }

    fn dial_told(&mut self, cx: &mut Context, of: DownloadId, sharer: PeerId) {
        if self.dials.begin() {
            self.dials.dial = Some(cx.dial(of, Some(sharer), self.told.clone()));
        }
    }
}
