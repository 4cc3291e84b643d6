//! What was asked for on one link and has not come.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{PathKind, Segment};
use super::window::Window;
use crate::limits::Limits;
use crate::time::Time;

/// What is asked for on one link.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) window: Option<Window>,
    /// Requests that are not answered, by number.
    pub(super) outstanding: BTreeMap<u64, Asked>,
    next_id: u64,
    /// Roots that a seeder was asked for.
    pub(super) asked_roots: BTreeSet<u32>,
}

/// A request that is not answered.
pub(super) struct Asked {
    pub(super) segments: Vec<Segment>,
    pub(super) cost: u64,
    /// What its answer takes of a circuit at the most.
    pub(super) most: u64,
    pub(super) at: Time,
}

impl Flow {
    pub(super) fn start(&mut self, limits: &Limits, path: PathKind, now: Time) {
        self.window = Some(Window::new(limits, path, now));
    }

    /// Takes note of a request that goes out; its number.
    pub(super) fn asks(
        &mut self,
        segments: Vec<Segment>,
        (cost, most): (u64, u64),
        at: Time,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(window) = &mut self.window {
            window.asked(cost, at);
        }
        let asked = Asked {
            segments,
            cost,
            most,
            at,
        };
        self.outstanding.insert(id, asked);
        id
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Nothing was asked for on it yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.next_id == 0
    }

    /// What answers take of a circuit, at the most, that have not come.
    pub(super) fn awaited(&self) -> u64 {
        let most = self.outstanding.values().map(|asked| asked.most);
        most.fold(0, u64::saturating_add)
    }

    /// Bytes asked for and not here yet.
    pub(super) fn ahead(&self) -> u64 {
        self.window.as_ref().map_or(0, Window::outstanding)
    }

    /// The entry that is asked for first of all.
    pub(super) fn first_asked(&self) -> Option<u32> {
        let asked = self.outstanding.values().next()?;
        asked.segments.first().map(|segment| segment.entry)
    }
}
