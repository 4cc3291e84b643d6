//! Converts a plan's limits to those of engines.

use std::time::Duration;

use handover_core::limits::{GROUP, Limits};

use super::LimitsPlan;
use crate::limits::small_limits;

impl LimitsPlan {
    /// The limits of every engine in the run.
    pub(crate) fn limits(self) -> Limits {
        let groups = |many: u8| u64::from(many) * u64::from(GROUP);
        Limits {
            window: groups(self.window),
            // As in production, where one download may use all of it; or a little more, so that the two bounds can be
            // told apart.
            window_total: match self.requests % 2 {
                0 => groups(self.window),
                _ => groups(self.window) * 3 / 2,
            },
            window_start: groups(self.window) / 4,
            send_buffer: groups(self.send_buffer),
            send_buffer_total: 4 * groups(self.send_buffer),
            requests: usize::from(self.requests),
            segments: usize::from(self.segments),
            disk_jobs: usize::from(self.disk_jobs),
            search: Duration::from_secs(self.search.into()),
            ..small_limits()
        }
    }
}
