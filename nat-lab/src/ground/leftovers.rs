//! Removes what a killed lab left behind. A label on each container names the process that created it. Containers whose
//! process has ended are removed.

use std::fmt;

use super::{Engine, GroundError};

/// A process: its ID, and its start time, as IDs are reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    began: String,
}

impl Owner {
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        let began = began(pid).unwrap_or_default();
        Self { pid, began }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn read(text: &str) -> Option<Self> {
        let (pid, began) = text.split_once('-')?;
        let began = began.to_owned();
        Some(Self {
            pid: pid.parse().ok()?,
            began,
        })
    }

    fn lives(&self) -> bool {
        began(self.pid).as_ref() == Some(&self.began)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.began)
    }
}

/// Returns when a process started, in ticks since boot. `None` if there is no such process.
fn began(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

/// Removes the containers of labs that ended without doing so. Returns their number.
///
/// # Errors
///
/// The engine returns an error.
pub async fn remove_leftovers(engine: &Engine) -> Result<usize, GroundError> {
    let mut listed = engine.list().await?;
    listed.retain(|container| Owner::read(&container.owner).is_none_or(|owner| !owner.lives()));
    engine.remove_all(listed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_again_and_lives() {
        let this = Owner::this();
        let read = Owner::read(&this.to_string()).unwrap();
        assert_eq!(read, this);
        assert!(read.lives());
    }

    #[test]
    fn a_number_that_came_again_is_another_process() {
        let mut other = Owner::this();
        other.began.push('0');
        assert!(!other.lives());
        let gone = Owner {
            pid: u32::MAX,
            began: "1".into(),
        };
        assert!(!gone.lives());
        assert_eq!(Owner::read("nonsense"), None);
    }
}
