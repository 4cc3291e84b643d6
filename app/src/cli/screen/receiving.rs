//! What a receiver sees from the code to the final message, except for the offer.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use handover_core::engine::{
    Allowance, Checking, DownloadSummary, ManifestSummary, PathKind, Progress,
};
use handover_core::{Multiaddr, PeerId};

use super::escape::{escape, fit};
use super::units::{
    average, count, date, eta, path, path_and_distance, percent, rate, size, summary, took,
};

/// Number of cells in a progress bar.
const BAR: u64 = 16;

/// Prompt for the code.
pub(crate) const CODE_PROMPT: &str = "code:";

/// Message while looking for the other side.
pub(crate) fn connecting(attempt: u32, reason: Option<&str>) -> String {
    match (attempt, reason) {
        (0 | 1, None) => "looking for the other side …".to_string(),
        (_, None) => format!("looking for the other side … attempt {attempt}"),
        (_, Some(reason)) => format!(
            "looking for the other side … attempt {attempt} ({})",
            fit(reason, 160)
        ),
    }
}

/// Message once a link is keyed.
pub(crate) fn connected(kind: PathKind) -> String {
    format!("connected · {}", path(kind))
}

/// Message while the other side is listing its files.
pub(crate) fn preparing() -> &'static str {
    "the other side is still listing its files …"
}

/// Message if the sharer is unreachable and a manifest source has its files.
pub(crate) fn stands_in(over: PathKind) -> String {
    format!(
        "the sender can't be reached; somebody else has its files · {}",
        path(over)
    )
}

/// Message after accepting the offer.
pub(crate) fn accepted(what: &ManifestSummary, to: Option<&Path>) -> String {
    match to {
        Some(folder) => format!(
            "receiving {} into {}",
            summary(what, ", "),
            escape(&folder.display().to_string())
        ),
        None => "receiving to standard output".to_string(),
    }
}

/// A progress bar: `████░░░░`.
pub(crate) fn bar(done: u64, total: u64) -> String {
    let cells = u128::from(BAR) * u128::from(done.min(total)) / u128::from(total.max(1));
    let full = usize::try_from(cells).unwrap_or(0);
    let rest = usize::try_from(BAR).unwrap_or(0) - full;
    format!("{}{}", "█".repeat(full), "░".repeat(rest))
}

/// Progress of the transfer, for a line that is redrawn. `before` is the previous path.
pub(crate) fn progress(progress: &Progress, before: Option<PathKind>, width: usize) -> String {
    let mut parts = Vec::new();
    if let Some(total) = progress.total {
        parts.push(format!(
            "{}  {} / {}",
            bar(progress.done, total),
            size(progress.done),
            size(total)
        ));
    } else {
        parts.push(size(progress.done));
    }
    parts.extend(checking(progress));
    parts.extend(speed(progress));
    if progress.files_total > 1 {
        parts.push(format!(
            "{}/{} files",
            progress.files_done, progress.files_total
        ));
    }
    parts.extend(sources(progress));
    parts.push(way(progress, before));
    // On a narrow screen, the end of the line is the part that can be omitted.
    let mut line = String::new();
    for part in parts {
        let longer = if line.is_empty() {
            part
        } else {
            format!("{line}  {part}")
        };
        if !line.is_empty() && console::measure_text_width(&longer) > width {
            break;
        }
        line = longer;
    }
    line
}

/// Progress of the transfer, for a line of its own.
pub(crate) fn progress_plain(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if let Some(total) = progress.total {
        let percent = percent(progress.done, total);
        parts.push(format!(
            "{} / {} ({percent} %)",
            size(progress.done),
            size(total)
        ));
    } else {
        parts.push(size(progress.done));
    }
    parts.extend(checking(progress));
    parts.extend(speed(progress));
    parts.extend(sources(progress));
    parts.push(way(progress, None));
    parts.join(" · ")
}

/// Message while the bytes of an earlier run are being read.
fn checking(progress: &Progress) -> Option<String> {
    let Checking { done, total } = progress.checking?;
    let percent = percent(done, total);
    Some(format!("checking what is here, {percent} %"))
}

/// Number of sources, if there are several.
fn sources(progress: &Progress) -> Option<String> {
    let sources = progress.sources;
    (sources > 1).then(|| format!("from {sources} sources"))
}

fn speed(progress: &Progress) -> Vec<String> {
    if progress.paused {
        return vec!["paused".to_string()];
    }
    let mut parts = vec![rate(progress.rate)];
    let left = progress
        .total
        .and_then(|total| eta(progress.done, total, progress.rate));
    parts.extend(left.map(|left| format!("ETA {left}")));
    parts
}

fn way(progress: &Progress, before: Option<PathKind>) -> String {
    let now = path_and_distance(progress.path, progress.rtt);
    match before {
        Some(before) if before != progress.path => format!("{} → {now}", path(before)),
        _ => now,
    }
}

/// Message after a change of path.
pub(crate) fn path_changed(before: Option<PathKind>, now: PathKind) -> String {
    match before {
        Some(before) if before != now => format!("moved from {} to {}", path(before), path(now)),
        _ => format!("moved to another connection, {}", path(now)),
    }
}

/// Message after losing the last link.
pub(crate) fn lost(reason: &str) -> String {
    format!(
        "connection lost ({}); looking for the other side again …",
        fit(reason, 160)
    )
}

/// Message after a relay has ended the connection, which is normal.
pub(crate) fn relay_ended() -> &'static str {
    "the relay has ended the connection, as public relays do after a little; going on over new ones, so this is slow"
}

/// Message if the other side is reached only through relays that end each connection.
pub(crate) fn circuits(relays: usize, allowance: Allowance) -> String {
    let through = match relays {
        1 => "a relay, which ends".to_string(),
        _ => format!("{relays} relays, which end"),
    };
    let after = match (allowance.bytes, allowance.time) {
        // What the transport itself needs has been subtracted.
        (Some(bytes), _) => format!("about {}", size(bytes)),
        (None, Some(time)) => took(time),
        (None, None) => "a little".to_string(),
    };
    format!("through {through} each connection after {after}; new ones are opened before that")
}

/// Message when the allowance for the use of relays is used up. `an_hour` is in bytes.
pub(crate) fn relays_spared(an_hour: u64) -> String {
    format!(
        "the relays belong to others, and have carried enough for now; going on at {} an hour through each. A direct \
         connection or a relay of your own (--relay) would be faster",
        size(an_hour)
    )
}

/// Lists relays that only the other side has named.
pub(crate) fn relays_in_question(relays: &[(PeerId, Multiaddr)]) -> String {
    let mut text = String::from(
        "the other side is reached only through relays that it has named itself; who runs one sees this computer's address:",
    );
    for (_, address) in relays {
        let _ = write!(text, "\n  {}", fit(&address.to_string(), 160));
    }
    text
}

/// The question whether to use them.
pub(crate) fn relays_question() -> &'static str {
    "use them? [y/N]"
}

/// Message while the other side has not been found.
pub(crate) fn not_found(reached: bool) -> &'static str {
    if reached {
        "nobody with this code was found yet; still looking …"
    } else {
        "no node of the DHT answers, so only this local network is searched …"
    }
}

/// Message after a lookup of a short code under all days around this one.
pub(crate) fn check_date(day: u32) -> String {
    let date = date(day);
    format!(
        "this computer's date is {date} (UTC), and short codes depend on it; if that is wrong here or on the other computer,\n\
         by more than a week, set it right"
    )
}

/// Message if the sender was found under another day.
pub(crate) fn other_date(days: i32) -> String {
    let apart = count(days.unsigned_abs().into(), "day", "days");
    let way = if days > 0 { "ahead of" } else { "behind" };
    format!(
        "the other computer's date is {apart} or more {way} this one's: one of the two is wrong"
    )
}

/// Message about a file that could not be received.
pub(crate) fn file_failed(path: &str, reason: &str, width: usize) -> String {
    format!("✗ {}: {}", fit(path, width), fit(reason, 160))
}

/// Message about a file that was skipped because it exists.
pub(crate) fn file_skipped(path: &str, width: usize) -> String {
    format!(
        "skipped, it exists: {}",
        fit(path, width.saturating_sub(20))
    )
}

/// Message about a peer that was dropped.
pub(crate) fn blamed(peer: &PeerId, violation: &str) -> String {
    format!(
        "{peer} broke the protocol and was dropped: {}",
        fit(violation, 160)
    )
}

/// `1.2 GiB in 28 s · 43 MiB/s · direct over the internet`.
pub(crate) fn totals(bytes: u64, time: Duration, way: Option<PathKind>) -> String {
    let mut parts = vec![format!("{} in {}", size(bytes), took(time))];
    parts.extend(average(bytes, time).filter(|rate| *rate > 0).map(rate));
    parts.extend(way.map(|kind| path(kind).to_string()));
    parts.join(" · ")
}

/// The final message of a receiver's run, with further remarks.
pub(crate) fn closing(name: &str, done: &DownloadSummary, to: Option<&Path>) -> String {
    let what = match name {
        "" => String::new(),
        name => format!("\"{}\" · ", fit(name, 60)),
    };
    let files = count(done.files, "file", "files");
    let sign = if done.failed == 0 { "✓" } else { "✗" };
    let mut lines = vec![format!(
        "{sign} received {what}{files} · {}",
        totals(done.bytes, done.took, done.path)
    )];
    if let Some(folder) = to {
        lines.push(format!("  in {}", escape(&folder.display().to_string())));
    }
    if done.untouched > 0 {
        lines.push(format!(
            "  {} there already, and left alone",
            count(done.untouched, "file was", "files were")
        ));
    }
    if done.spared > 0 {
        lines.push(format!(
            "  {} of it did not have to be fetched",
            size(done.spared)
        ));
    }
    if done.skipped > 0 {
        lines.push(format!(
            "  {} skipped: the name was taken",
            count(done.skipped, "file", "files")
        ));
    }
    if done.failed > 0 {
        lines.push(format!(
            "  {} failed; see above",
            count(done.failed, "file", "files")
        ));
    }
    if done.executables_stripped > 0 {
        lines.push(format!(
            "  {} not made executable (--exec keeps that)",
            count(done.executables_stripped, "program was", "programs were")
        ));
    }
    lines.join("\n")
}

/// Message when the download is complete and seeding begins.
pub(crate) fn seeding(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    let time = match (minutes, minutes % 60, minutes % (24 * 60)) {
        (0, ..) => format!("{} s", time.as_secs()),
        (_, _, 0) => format!("{}d", minutes / (24 * 60)),
        (_, 0, _) => format!("{}h", minutes / 60),
        _ => format!("{minutes}m"),
    };
    format!("seeding for {time} · Ctrl-C ends it")
}

/// Message after declining the offer.
pub(crate) fn declined() -> &'static str {
    "declined; nothing was received"
}

/// Message after the user has stopped a download that can be resumed.
pub(crate) fn suspended() -> &'static str {
    "stopped; what has come is kept. To go on: the same command again, or handover resume"
}

/// Message after a cancelled download.
pub(crate) fn cancelled() -> &'static str {
    "cancelled; files that were complete stay, the rest is removed"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halfway() -> Progress {
        Progress {
            done: 612 << 20,
            total: Some(1229 << 20),
            files_done: 12,
            files_total: 214,
            rate: 43 << 20,
            rtt: Some(Duration::from_millis(23)),
            path: PathKind::Direct,
            sources: 1,
            checking: None,
            paused: false,
        }
    }

    #[test]
    fn on_the_way_to_the_offer() {
        let screens = [
            CODE_PROMPT.to_string(),
            connecting(1, None),
            connecting(2, Some("connection refused")),
            connecting(3, None),
            connected(PathKind::Loopback),
            preparing().to_string(),
            stands_in(PathKind::Lan),
        ];
        insta::assert_snapshot!(screens.join("\n"));
    }

    #[test]
    fn while_it_comes_in() {
        let halfway = halfway();
        let stream = Progress {
            total: None,
            files_total: 1,
            rtt: None,
            path: PathKind::Lan,
            ..halfway
        };
        let paused = Progress {
            paused: true,
            ..halfway
        };
        let stalled = Progress { rate: 0, ..halfway };
        let resumed = Progress {
            checking: Some(Checking {
                done: 210 << 20,
                total: 612 << 20,
            }),
            ..halfway
        };
        let several = Progress {
            sources: 3,
            ..halfway
        };
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
            .parse()
            .unwrap();
        let summary = ManifestSummary {
            files: 214,
            bytes: 1229 << 20,
            ..ManifestSummary::default()
        };
        let screens = [
            accepted(&summary, Some(Path::new("Downloads"))),
            accepted(&summary, None),
            progress(&halfway, None, 120),
            progress(&halfway, Some(PathKind::Relayed), 120),
            progress(&halfway, None, 60),
            progress(&halfway, None, 10),
            progress(&stream, None, 120),
            progress(&paused, None, 120),
            progress(&stalled, None, 120),
            progress(&resumed, None, 120),
            progress(&resumed, None, 80),
            progress_plain(&resumed),
            progress(&several, None, 120),
            progress_plain(&several),
            progress_plain(&halfway),
            progress_plain(&stream),
            path_changed(Some(PathKind::Relayed), PathKind::Direct),
            path_changed(None, PathKind::Lan),
            lost("reset by\u{1b}[31m peer"),
            file_failed("mods/a\rb", "permission denied", 80),
            file_skipped("mods/c", 80),
            blamed(&peer, "a flood of messages without progress"),
        ];
        insta::assert_snapshot!(screens.join("\n"));
    }

    #[test]
    fn at_the_end() {
        let done = DownloadSummary {
            files: 214,
            bytes: 1229 << 20,
            took: Duration::from_secs(28),
            path: Some(PathKind::Direct),
            ..DownloadSummary::default()
        };
        let partly = DownloadSummary {
            files: 1,
            skipped: 1,
            failed: 2,
            executables_stripped: 1,
            took: Duration::from_millis(20),
            path: None,
            untouched: 1,
            spared: 1100 << 20,
            ..done
        };
        let screens = [
            closing("mods", &done, Some(Path::new("/home/me/Downloads"))),
            closing("", &partly, None),
            seeding(Duration::from_mins(10)),
            seeding(Duration::from_hours(3)),
            seeding(Duration::from_hours(48)),
            declined().to_string(),
            cancelled().to_string(),
        ];
        insta::assert_snapshot!(screens.join("\n"));
    }

    #[test]
    fn a_bar_is_full_at_the_end_only() {
        assert_eq!(bar(0, 100), "░".repeat(16));
        assert_eq!(bar(99, 100), format!("{}░", "█".repeat(15)));
        assert_eq!(bar(100, 100), "█".repeat(16));
        assert_eq!(bar(7, 0), "░".repeat(16));
        assert_eq!(bar(u64::MAX, u64::MAX), "█".repeat(16));
    }
}
