//! What a sender sees: the code, the receivers that join, and how each of them leaves.

use std::time::Duration;

use handover_core::Multiaddr;
use handover_core::engine::{Findable, ManifestSummary, PathKind, ReceiverOutcome, ShareEnd};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::escape::fit;
use super::receiving::{bar, totals};
use super::units::{count, eta, path, path_and_distance, percent, rate, size, summary};

/// Maximum number of skipped or changed items that are named.
const SKIPPED: usize = 10;

/// `mods · 214 files · 1.2 GiB`.
pub(crate) fn scanned(name: &str, what: &ManifestSummary) -> String {
    format!("{} · {}", fit(name, 60), summary(what, " · "))
}

/// Lists what could not be shared, and why.
pub(crate) fn left_out(skipped: &[(String, String)], width: usize) -> Option<String> {
    if skipped.is_empty() {
        return None;
    }
    let number = count(skipped.len() as u64, "thing is", "things are");
    let mut lines = vec![format!("! {number} left out:")];
    for (name, why) in skipped.iter().take(SKIPPED) {
        let why = fit(why, 120);
        let room = width
            .saturating_sub(6 + console::measure_text_width(&why))
            .max(30);
        lines.push(format!("    {}: {why}", fit(name, room)));
    }
    if skipped.len() > SKIPPED {
        lines.push(format!("    … and {} more", skipped.len() - SKIPPED));
    }
    Some(lines.join("\n"))
}

/// Message if the share continues that of an earlier run.
pub(crate) fn again() -> &'static str {
    "an earlier run of this ended without a word; going on under the same code"
}

/// Lists the files that have changed since an earlier run listed them.
pub(crate) fn changed(names: &[String], width: usize) -> String {
    let number = count(names.len() as u64, "file has", "files have");
    let mut lines = vec![format!("! {number} changed since then:")];
    let shown = names.iter().take(SKIPPED);
    lines.extend(shown.map(|name| format!("    {}", fit(name, width.saturating_sub(4).max(30)))));
    if names.len() > SKIPPED {
        lines.push(format!("    … and {} more", names.len() - SKIPPED));
    }
    lines.push("Receivers who had begun have to run their command again.".to_string());
    lines.join("\n")
}

/// The command for the other side.
pub(crate) fn command(code: &str, loopback: bool, bootstrap: &[Multiaddr]) -> String {
    let loopback = if loopback { " --loopback" } else { "" };
    let bootstrap = bootstrap.iter().map(|node| format!(" --bootstrap {node}"));
    let bootstrap: String = bootstrap.collect();
    format!("    handover get{loopback}{bootstrap} {code}")
}

/// The line above the command.
pub(crate) fn invitation(loopback: bool) -> &'static str {
    if loopback {
        "On this computer, run:"
    } else {
        "On the other computer, run:"
    }
}

/// The note below the command.
pub(crate) fn invitation_note() -> &'static str {
    "Where others use that computer too, run `handover get` alone and paste the code when it asks."
}

/// Message about whether the code can be found in the DHT.
pub(crate) fn announced(findable: Findable) -> &'static str {
    match findable {
        Findable::Found => "the code can be found from anywhere now",
        Findable::NoNode => {
            "! No node of the DHT answers, so the code is only found on this local network.\n  \
             Where that does not do, --ticket gives a code that names this computer's addresses."
        }
        Findable::NoAddress => {
            "! This computer has no address yet that others can reach: none of its own is known to be, and no\n  \
             relay has had a place for it. Until one has, the code is only found on this local network."
        }
        Findable::NotKept => {
            "! Nodes of the DHT answer, but none of them has kept what they were told of this code. Until one\n  \
             does, the code is only found on this local network."
        }
    }
}

/// A QR code for the code.
pub(crate) fn qr(code: &str) -> Option<String> {
    let picture = QrCode::with_error_correction_level(code, EcLevel::L).ok()?;
    // Most terminals are dark, so the light parts of the picture are drawn.
    let drawn = picture
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    Some(drawn)
}

/// Message after a receiver used the right number with wrong words. `left` is the number of tries left.
pub(crate) fn wrong_words(left: u32) -> String {
    if left == 0 {
        return "! The short code was tried with wrong words too often, and opens nothing any more. The long one still does; run the\n  \
                same again for another short one."
            .to_string();
    }
    let tries = count(left.into(), "try", "tries");
    format!(
        "! Somebody tried the short code with wrong words. {tries} more, and it opens nothing any more."
    )
}

/// Message with the code in its old form.
pub(crate) fn legacy(code: Option<&str>) -> String {
    match code {
        Some(code) => format!("In the old form, for this network only:\n\n    {code}\n"),
        None => {
            "! There is no code in the old form: this computer has no address that one could name."
                .to_string()
        }
    }
}

/// Message if the code contains no address.
pub(crate) fn no_addresses() -> &'static str {
    "! This computer has no network that others could reach it by, so the code leads nowhere yet.\n  \
     Connect to a network, and a new code is printed; with --loopback it works on this computer alone."
}

/// Message above the new code after a change of addresses.
pub(crate) fn new_code() -> &'static str {
    "The addresses of this computer have changed. The new command is:"
}

/// Message while there is no receiver.
pub(crate) fn waiting() -> &'static str {
    "waiting for a receiver · Ctrl-C ends it"
}

/// Message while there is no receiver and files are being hashed.
pub(crate) fn hashing(done: u64, total: u64) -> String {
    let percent = percent(done, total);
    format!(
        "waiting for a receiver · reading ahead, {percent} % of {}",
        size(total)
    )
}

/// Message after a receiver has joined with the right code.
pub(crate) fn joined(name: &str, kind: PathKind) -> String {
    format!("{} joined · {}", fit(name, 40), path(kind))
}

/// Progress of a receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receiving {
    pub(crate) done: u64,
    /// 0 if unknown.
    pub(crate) total: u64,
    pub(crate) rate: u64,
    pub(crate) path: PathKind,
    /// The previous path.
    pub(crate) before: Option<PathKind>,
    pub(crate) rtt: Option<Duration>,
}

/// Progress of a receiver, for a line that is redrawn.
pub(crate) fn progress(name: &str, at: &Receiving, width: usize) -> String {
    let name = fit(name, 24);
    let amount = match at.total {
        0 => size(at.done),
        total => format!(
            "{}  {} / {}",
            bar(at.done, total),
            size(at.done),
            size(total)
        ),
    };
    let mut line = format!("{name} {amount}");
    for part in rest(at) {
        let longer = format!("{line}  {part}");
        if console::measure_text_width(&longer) > width {
            break;
        }
        line = longer;
    }
    line
}

/// Progress of a receiver, for a line of its own.
pub(crate) fn progress_plain(name: &str, at: &Receiving) -> String {
    let amount = match at.total {
        0 => size(at.done),
        total => format!(
            "{} / {} ({} %)",
            size(at.done),
            size(total),
            percent(at.done, total)
        ),
    };
    format!("{}: {amount} · {}", fit(name, 24), rest(at).join(" · "))
}

fn rest(at: &Receiving) -> Vec<String> {
    let mut parts = vec![rate(at.rate)];
    let left = (at.total > 0)
        .then(|| eta(at.done, at.total, at.rate))
        .flatten();
    parts.extend(left.map(|left| format!("ETA {left}")));
    let now = path_and_distance(at.path, at.rtt);
    parts.push(match at.before {
        Some(before) if before != at.path => format!("{} → {now}", path(before)),
        _ => now,
    });
    parts
}

/// Message about how a receiver left, and after how many bytes.
pub(crate) fn left(
    name: &str,
    outcome: &ReceiverOutcome,
    sent: u64,
    time: Duration,
    way: PathKind,
) -> String {
    let name = fit(name, 40);
    let sent_words = size(sent);
    match outcome {
        ReceiverOutcome::Completed => {
            format!("✓ sent to {name} · {}", totals(sent, time, Some(way)))
        }
        ReceiverOutcome::Declined => format!("{name} said no"),
        ReceiverOutcome::Cancelled => format!("{name} gave up after {sent_words}"),
        ReceiverOutcome::Lost => {
            format!("{name} was lost after {sent_words}; the same code works if they come back")
        }
        ReceiverOutcome::Violation => {
            format!("✗ {name} broke the protocol after {sent_words} and was dropped")
        }
    }
}

/// Message about a file that can no longer be served.
pub(crate) fn file_failed(path: &str, error: &str, width: usize) -> String {
    format!(
        "✗ can't be sent any more: {}: {}",
        fit(path, width),
        fit(error, 160)
    )
}

/// Message about the end of the share.
pub(crate) fn ended(reason: &ShareEnd) -> String {
    match reason {
        ShareEnd::Stopped => "stopped sharing; the code no longer works".to_string(),
        ShareEnd::UsedUp => "done; the code no longer works".to_string(),
        ShareEnd::Expired => "its time is over; the code no longer works".to_string(),
        ShareEnd::Failed(reason) => format!("✗ {}", fit(reason, 400)),
    }
}

/// Message after the first Ctrl-C.
pub(crate) fn stopping() -> &'static str {
    "stopping … (Ctrl-C again ends it at once)"
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "eyJwZWVyX2lkIjoi";

    fn mods() -> ManifestSummary {
        ManifestSummary {
            files: 214,
            folders: 3,
            bytes: 1229 << 20,
            ..ManifestSummary::default()
        }
    }

    #[test]
    fn the_code_and_what_it_opens() {
        let skipped: Vec<_> = (0..12)
            .map(|n| {
                (
                    format!("mods/pipe\u{1b}[{n}"),
                    "this is neither a file nor a folder".to_string(),
                )
            })
            .collect();
        let screens = [
            scanned("mods", &mods()),
            left_out(&skipped, 80).unwrap(),
            left_out(&skipped[..1], 80).unwrap(),
            invitation(false).to_string(),
            command(CODE, false, &[]),
            invitation(true).to_string(),
            command(CODE, true, &[]),
            invitation_note().to_string(),
            legacy(Some("GAZ3-VTDS-YQP7:hRoI:10.148.96.12:47820")),
            legacy(None),
            no_addresses().to_string(),
            new_code().to_string(),
            waiting().to_string(),
            hashing(500, 1000),
        ];
        insta::assert_snapshot!(screens.join("\n"));
        assert_eq!(left_out(&[], 80), None);
    }

    #[test]
    fn receivers_come_and_go() {
        let at = Receiving {
            done: 612 << 20,
            total: 1229 << 20,
            rate: 43 << 20,
            path: PathKind::Direct,
            before: Some(PathKind::Relayed),
            rtt: Some(Duration::from_millis(23)),
        };
        let stream = Receiving {
            total: 0,
            before: None,
            ..at
        };
        let mut screens = vec![
            joined("laptop\u{1b}[2J", PathKind::Lan),
            progress("laptop", &at, 120),
            progress("laptop", &at, 50),
            progress("laptop", &stream, 120),
            progress_plain("laptop", &at),
            progress_plain("laptop", &stream),
            file_failed("mods/a", "the file changed while it was being sent", 80),
        ];
        for outcome in [
            ReceiverOutcome::Completed,
            ReceiverOutcome::Declined,
            ReceiverOutcome::Cancelled,
            ReceiverOutcome::Lost,
            ReceiverOutcome::Violation,
        ] {
            let time = Duration::from_secs(28);
            screens.push(left("laptop", &outcome, 1229 << 20, time, PathKind::Direct));
        }
        for reason in [
            ShareEnd::Stopped,
            ShareEnd::UsedUp,
            ShareEnd::Failed("there is nothing to share".to_string()),
        ] {
            screens.push(ended(&reason));
        }
        screens.push(stopping().to_string());
        insta::assert_snapshot!(screens.join("\n"));
    }
}
