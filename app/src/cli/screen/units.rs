//! Formats sizes, rates and times.

use std::time::Duration;

use handover_core::engine::{ManifestSummary, PathKind};
use time::OffsetDateTime;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `1.2 GiB`: one decimal below ten, none above.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut divisor = 1024_u128;
    let mut unit = 0;
    loop {
        let tenths = (u128::from(bytes) * 10 + divisor / 2) / divisor;
        let whole = (u128::from(bytes) + divisor / 2) / divisor;
        if whole >= 1024 && unit + 1 < UNITS.len() {
            divisor *= 1024;
            unit += 1;
        } else if tenths < 100 {
            return format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]);
        } else {
            return format!("{whole} {}", UNITS[unit]);
        }
    }
}

/// `43 MiB/s`.
pub(crate) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

/// Average rate in bytes a second; `None` for less than 50 ms.
pub(crate) fn average(bytes: u64, took: Duration) -> Option<u64> {
    let millis = took.as_millis();
    (millis >= 50).then(|| u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX))
}

/// Remaining time as `m:ss` or `h:mm:ss`; `None` if it is unknown or at least 100 hours.
pub(crate) fn eta(done: u64, total: u64, rate: u64) -> Option<String> {
    let seconds = total
        .saturating_sub(done)
        .checked_add(rate.checked_sub(1)?)?
        .checked_div(rate)?;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => Some(format!("{minutes}:{seconds:02}")),
        1..100 => Some(format!("{hours}:{minutes:02}:{seconds:02}")),
        _ => None,
    }
}

/// `2026-12-02`, from days since 1970.
pub(crate) fn date(day: u32) -> String {
    let seconds = i64::from(day) * 86_400;
    let time = OffsetDateTime::from_unix_timestamp(seconds);
    time.map_or_else(
        |_| format!("day {day} since 1970"),
        |time| time.date().to_string(),
    )
}

/// `2026-12-02 14:05`, from seconds since 1970.
pub(crate) fn time_of_day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    match time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok()) {
        Some(time) => format!("{} {:02}:{:02}", time.date(), time.hour(), time.minute()),
        None => format!("{seconds} s since 1970"),
    }
}

/// `55 ms`, `2.8 s`, `28 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) fn took(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `just now`, `5 min ago`, `3 h ago`, `12 days ago`, from seconds since 1970. The clock may have been set back since
/// `at`.
pub(crate) fn ago(at: u64, now: u64) -> String {
    let seconds = now.saturating_sub(at);
    match seconds {
        0..60 => "just now".to_string(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} ago", count(seconds / 86_400, "day", "days")),
    }
}

/// `23 ms`.
pub(crate) fn round_trip(time: Duration) -> String {
    match time.as_millis() {
        0 => "under 1 ms".to_string(),
        millis => format!("{millis} ms"),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A percentage, rounded down, so that 100 is reached only at the end.
pub(crate) fn percent(done: u64, total: u64) -> u64 {
    let percent = u128::from(done.min(total)) * 100 / u128::from(total.max(1));
    u64::try_from(percent).unwrap_or(100)
}

/// A summary such as `214 files, 1.2 GiB`, with `separator` between the parts.
pub(crate) fn summary(summary: &ManifestSummary, separator: &str) -> String {
    if summary.stream {
        return "a stream".to_string();
    }
    let mut parts = Vec::new();
    if summary.files > 0 || summary.folders == 0 {
        parts.push(count(summary.files, "file", "files"));
    } else {
        parts.push(count(summary.folders, "folder", "folders"));
    }
    parts.push(size(summary.bytes));
    parts.join(separator)
}

/// Names the path to the other side.
pub(crate) fn path(path: PathKind) -> &'static str {
    match path {
        PathKind::Loopback => "this computer",
        PathKind::Lan => "local network",
        PathKind::Direct => "direct over the internet",
        PathKind::Relayed => "relayed",
    }
}

/// Names the path to the other side, with its round-trip time.
pub(crate) fn path_and_distance(kind: PathKind, rtt: Option<Duration>) -> String {
    match rtt {
        Some(rtt) => format!("{}, {}", path(kind), round_trip(rtt)),
        None => path(kind).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let mib = 1024 * 1024;
        for (bytes, text) in [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024 - 1, "10 KiB"),
            (mib - 1, "1.0 MiB"),
            (612 * mib, "612 MiB"),
            (1229 * mib, "1.2 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(43 * mib), "43 MiB/s");
    }

    #[test]
    fn times_read_well() {
        for (millis, text) in [
            (0, "0 ms"),
            (849, "849 ms"),
            (2849, "2.8 s"),
            (28_400, "28 s"),
            (125_000, "2 min 5 s"),
            (3_780_000, "1 h 3 min"),
        ] {
            assert_eq!(took(Duration::from_millis(millis)), text);
        }
        for (seconds, text) in [
            (59, "just now"),
            (3599, "59 min ago"),
            (86_399, "23 h ago"),
            (86_400, "1 day ago"),
            (40 * 86_400, "40 days ago"),
        ] {
            assert_eq!(ago(1000, 1000 + seconds), text);
        }
        assert_eq!(ago(1000, 0), "just now");
        assert_eq!(eta(0, 140, 10).unwrap(), "0:14");
        assert_eq!(eta(0, 37_000, 10).unwrap(), "1:01:40");
        assert_eq!(eta(0, 1, 0), None);
        assert_eq!(eta(0, u64::MAX, 1), None);
        assert_eq!(eta(9, 5, 1).unwrap(), "0:00");
    }

    #[test]
    fn the_end_is_not_told_before_it_is_there() {
        assert_eq!(
            (percent(999, 1000), percent(5, 5), percent(0, 0)),
            (99, 100, 0)
        );
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
