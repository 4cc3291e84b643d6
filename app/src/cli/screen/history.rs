//! Finished transfers, one a line.

use handover::store::{Direction, Ended, Transfer};

use super::escape::fit;
use super::units::{ago, count, path, size, took};

/// Message for an empty history.
pub(crate) fn none() -> &'static str {
    "no transfers are remembered here"
}

/// Message after clearing the history.
pub(crate) fn cleared(transfers: u64) -> String {
    format!("forgot {}", count(transfers, "transfer", "transfers"))
}

/// `2 h ago · received mods · 12 files · 5.0 MiB · from laptop · 3.2 s · local network · in /home/ada`.
pub(crate) fn transfer(of: &Transfer, now: u64, width: usize) -> String {
    let (verb, preposition) = match of.direction {
        Direction::Sent => ("sent", "to"),
        Direction::Received => ("received", "from"),
    };
    let peer = match (of.peer_name.as_str(), &of.peer) {
        ("", Some(id)) => id.as_str(),
        ("", None) => "somebody",
        (name, _) => name,
    };
    let mut parts = vec![
        ago(of.at, now),
        format!("{verb} {}", fit(&of.name, width / 2)),
        count(of.files, "file", "files"),
        size(of.bytes),
        format!("{preposition} {}", fit(peer, 60)),
    ];
    match (of.ended, of.reason.as_str()) {
        (Ended::Completed, _) => parts.push(took(of.took)),
        (ended, "") => parts.push(words(ended).to_string()),
        (ended, reason) => parts.push(format!("{}: {}", words(ended), fit(reason, width))),
    }
    parts.extend(of.path.map(|kind| path(kind).to_string()));
    parts.extend(
        of.folder
            .as_ref()
            .map(|folder| format!("in {}", fit(folder, width))),
    );
    parts.join(" · ")
}

fn words(ended: Ended) -> &'static str {
    match ended {
        Ended::Completed => "complete",
        Ended::Incomplete => "some files failed",
        Ended::Declined => "declined",
        Ended::Cancelled => "cancelled",
        Ended::Failed => "failed",
        Ended::Violation => "broke the protocol",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handover_core::engine::PathKind;

    use super::*;

    #[test]
    fn a_transfer_is_a_line() {
        let received = Transfer {
            at: 1000,
            direction: Direction::Received,
            name: "mods".to_string(),
            files: 12,
            bytes: 5 << 20,
            peer: Some("12D3KooW".to_string()),
            peer_name: "laptop".to_string(),
            ended: Ended::Completed,
            reason: String::new(),
            took: Duration::from_millis(3200),
            path: Some(PathKind::Lan),
            folder: Some("/home/ada".to_string()),
        };
        let sent = Transfer {
            at: 9000,
            direction: Direction::Sent,
            name: "a\u{1b}[2J\n.pdf".to_string(),
            files: 1,
            peer_name: String::new(),
            ended: Ended::Declined,
            folder: None,
            ..received.clone()
        };
        let failed = Transfer {
            ended: Ended::Failed,
            reason: "no answer".to_string(),
            peer: None,
            peer_name: String::new(),
            path: None,
            ..received.clone()
        };
        let lines = [received, sent, failed].map(|of| transfer(&of, 9010, 80));
        insta::assert_snapshot!(lines.join("\n"));
    }
}
