//! The rate limits in force: those of the command line, otherwise those of `config.toml`, which is checked for changes
//! while the command runs.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use handover::{ManagerError, UnifiedP2PManager};
use handover_core::engine::Limited;
use tokio::time::{Instant, sleep_until};

use super::args::{Global, Limits};
use super::failure::Failure;
use super::json;
use super::screen::{Screen, Tone, throttling};
use super::settings::Settings;
use super::{data_dir, rate::Rate};

/// Interval between checks of the file.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Rate limits for sending and receiving, in bytes a second; `None` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rates {
    pub(crate) up: Option<u64>,
    pub(crate) down: Option<u64>,
}

/// Rate limits and their sources.
#[derive(Debug)]
pub(crate) struct Throttle {
    given: Limits,
    data_dir: PathBuf,
    /// Modification time and size of the file at the last check.
    seen: Option<(SystemTime, u64)>,
    due: Instant,
    /// The rate limits in force.
    rates: Rates,
}

/// A change of the file.
#[derive(Debug)]
pub(crate) enum News {
    /// New rate limits.
    Rates(Rates),
    /// The file cannot be used, so the limits stay as they are.
    Wrong(Failure),
}

impl Throttle {
    pub(crate) fn new(given: Limits, global: &Global) -> Result<Self, Failure> {
        let data_dir = data_dir::choose(global.data_dir.as_deref())?;
        let mut throttle = Self {
            given,
            data_dir,
            seen: None,
            due: Instant::now() + LOOK_AGAIN,
            rates: Rates::default(),
        };
        throttle.seen = throttle.look();
        throttle.rates = throttle.read()?;
        Ok(throttle)
    }

    fn look(&self) -> Option<(SystemTime, u64)> {
        let file = Settings::path(&self.data_dir).metadata().ok()?;
        Some((file.modified().ok()?, file.len()))
    }

    fn read(&self) -> Result<Rates, Failure> {
        let settings = Settings::read(&self.data_dir)?;
        let or = |given: Option<Rate>, kept: Option<Rate>| given.or(kept).map(|rate| rate.0);
        Ok(Rates {
            up: or(self.given.limit_up, settings.limit_up),
            down: or(self.given.limit_down, settings.limit_down),
        })
    }

    /// Applies the initial rate limits.
    pub(crate) async fn begin(
        &self,
        manager: &UnifiedP2PManager,
        screen: &Screen,
    ) -> Result<(), ManagerError> {
        if self.rates == Rates::default() {
            return Ok(());
        }
        set(manager, screen, self.rates).await
    }

    /// Returns the next change. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            sleep_until(self.due).await;
            self.due = Instant::now() + LOOK_AGAIN;
            if let Some(news) = self.look_again() {
                return news;
            }
        }
    }

    fn look_again(&mut self) -> Option<News> {
        let seen = self.look();
        if seen == self.seen {
            return None;
        }
        self.seen = seen;
        match self.read() {
            Ok(rates) if rates == self.rates => None,
            Ok(rates) => {
                self.rates = rates;
                Some(News::Rates(rates))
            }
            Err(failure) => Some(News::Wrong(failure)),
        }
    }
}

/// Applies or reports a change.
pub(crate) async fn heed(
    news: News,
    manager: &UnifiedP2PManager,
    screen: &Screen,
) -> Result<(), ManagerError> {
    match news {
        News::Rates(rates) => set(manager, screen, rates).await,
        News::Wrong(failure) => {
            screen.need(Tone::Bad, &throttling::wrong(&failure.what));
            Ok(())
        }
    }
}

async fn set(
    manager: &UnifiedP2PManager,
    screen: &Screen,
    rates: Rates,
) -> Result<(), ManagerError> {
    manager.set_limit(Limited::Up, rates.up).await?;
    manager.set_limit(Limited::Down, rates.down).await?;
    screen.event(&json::limits(rates.up, rates.down));
    screen.say(Tone::Plain, &throttling::limits(rates.up, rates.down));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(given: Limits) -> (tempfile::TempDir, Throttle) {
        let dir = tempfile::tempdir().unwrap();
        let global = Global {
            json: false,
            quiet: false,
            verbose: 0,
            data_dir: Some(dir.path().to_path_buf()),
        };
        let throttle = Throttle::new(given, &global).unwrap();
        (dir, throttle)
    }

    fn write(dir: &tempfile::TempDir, text: &str) {
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
    }

    #[test]
    fn a_file_that_changes_changes_the_limits_and_slips_leave_them() {
        let (dir, mut throttle) = throttle(Limits::default());
        assert_eq!(throttle.rates, Rates::default());
        assert!(throttle.look_again().is_none());
        write(&dir, "limit_up = \"5M\"");
        let up = Some(5_000_000);
        let news = throttle.look_again();
        assert!(matches!(news, Some(News::Rates(rates)) if rates == Rates { up, down: None }));
        write(&dir, "limit_up = \"much\"");
        assert!(matches!(throttle.look_again(), Some(News::Wrong(_))));
        assert_eq!(throttle.rates.up, up);
        // An error is reported once, and the same limit written differently is no change.
        assert!(throttle.look_again().is_none());
        write(&dir, "limit_up = \"5000K\" # slower");
        assert!(throttle.look_again().is_none());
        std::fs::remove_file(dir.path().join("config.toml")).unwrap();
        let news = throttle.look_again();
        assert!(matches!(news, Some(News::Rates(rates)) if rates == Rates::default()));
    }

    #[test]
    fn the_command_line_comes_before_the_file() {
        let given = Limits {
            limit_up: Some(Rate(2000)),
            limit_down: None,
        };
        let (dir, mut throttle) = throttle(given);
        write(&dir, "limit_up = \"5M\"\nlimit_down = \"8Mbit\"");
        let wanted = Rates {
            up: Some(2000),
            down: Some(1_000_000),
        };
        let news = throttle.look_again();
        assert!(matches!(news, Some(News::Rates(rates)) if rates == wanted));
    }
}
