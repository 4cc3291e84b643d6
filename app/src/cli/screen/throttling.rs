//! Messages about rate limits.

use super::escape::fit;

/// `limits: 5 MB/s up, 1.5 MB/s down`.
pub(crate) fn limits(up: Option<u64>, down: Option<u64>) -> String {
    match (up, down) {
        (None, None) => "no limits any more".to_string(),
        (Some(up), None) => format!("limit: {} up", rate(up)),
        (None, Some(down)) => format!("limit: {} down", rate(down)),
        (Some(up), Some(down)) => format!("limits: {} up, {} down", rate(up), rate(down)),
    }
}

/// Message if the changed settings are invalid.
pub(crate) fn wrong(why: &str) -> String {
    format!("! The limits stay as they were: {}", fit(why, 400))
}

/// Message when the sharer pauses or continues.
pub(crate) fn sharer_paused(paused: bool) -> &'static str {
    if paused {
        "the other side has paused; waiting until it goes on …"
    } else {
        "the other side goes on"
    }
}

/// A rate in the decimal units in which limits are set: `1.5 MB/s`.
fn rate(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB/s"), (1_000_000, "MB/s"), (1000, "kB/s")];
    let found = units.into_iter().find(|(scale, _)| bytes >= *scale);
    let (scale, unit) = found.unwrap_or((1, "B/s"));
    let (whole, hundredths) = (bytes / scale, bytes % scale * 100 / scale);
    let decimals = match hundredths {
        0 => String::new(),
        tens if tens % 10 == 0 => format!(".{}", tens / 10),
        hundredths => format!(".{hundredths:02}"),
    };
    format!("{whole}{decimals} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_and_go() {
        let screens = [
            limits(Some(5_000_000), None),
            limits(None, Some(1_500_000)),
            limits(Some(2000), Some(12_345_678_900)),
            limits(Some(62_500), None),
            limits(None, None),
            wrong("config.toml can't be used: limit_up\u{1b}[2J"),
            sharer_paused(true).to_string(),
            sharer_paused(false).to_string(),
        ];
        insta::assert_snapshot!(screens.join("\n"));
    }
}
