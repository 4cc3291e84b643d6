//! Rates as users write them: `500K`, `5M`, `1.5MB`, `40Mbit`. The engine decides what they limit.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// Minimum rate, in bytes a second. Below it, a verifiable piece takes longer than anybody waits.
const LEAST: u64 = 1000;
/// Maximum rate, in bytes a second. A higher one limits nothing.
const MOST: u64 = 1_000_000_000_000;
/// Number of decimal places that are used.
const DECIMALS: usize = 6;

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let unit = unit.trim_start();
        let unit = unit.strip_suffix("/s").unwrap_or(unit);
        let millionths = millionths(number).ok_or("not a rate such as 500K, 5M or 40Mbit")?;
        let (scale, bits) = scale(unit)?;
        let bytes = millionths.saturating_mul(scale.into()) / 1_000_000 / if bits { 8 } else { 1 };
        match u64::try_from(bytes) {
            Ok(0) => Err(
                "a limit of nothing would let nothing through; leave it away for no limit".into(),
            ),
            Ok(bytes) if bytes < LEAST => Err("less than 1K, a thousand bytes a second".into()),
            Ok(bytes) if bytes <= MOST => Ok(Self(bytes)),
            _ => Err("more than 1000G a second; leave it away for no limit".into()),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Converts a decimal number to millionths: `1.5` is 1,500,000.
fn millionths(number: &str) -> Option<u128> {
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.len() <= 15 && text.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() || rest.is_empty() || !digits(whole) || !digits(rest) {
        return None;
    }
    let rest: String = rest.chars().take(DECIMALS).collect();
    let rest = format!("{rest:0<DECIMALS$}");
    Some(whole.parse::<u128>().ok()? * 1_000_000 + rest.parse::<u128>().ok()?)
}

/// Returns the factor of a unit, and whether it counts bits.
fn scale(unit: &str) -> Result<(u64, bool), String> {
    let mut rest = unit.chars();
    let scale = match rest.next() {
        Some('k' | 'K') => 1000,
        Some('m' | 'M') => 1_000_000,
        Some('g' | 'G') => 1_000_000_000,
        _ => {
            rest = unit.chars();
            1
        }
    };
    match rest.as_str() {
        "" | "B" => Ok((scale, false)),
        "bit" => Ok((scale, true)),
        "b" => Err(format!("{unit} may be bits or bytes: write B or bit")),
        _ => Err(format!(
            "{unit:?} is no unit: it is K, M or G, with B or bit behind it or nothing"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_rates_in_many_ways() {
        let rates = [
            ("500K", 500_000),
            ("500k", 500_000),
            ("5M", 5_000_000),
            ("1.5M", 1_500_000),
            ("20MB", 20_000_000),
            ("20 MB/s", 20_000_000),
            ("40Mbit", 5_000_000),
            ("40Mbit/s", 5_000_000),
            ("0.1G", 100_000_000),
            ("2000", 2000),
            ("1.0000009M", 1_000_000),
            ("1000G", 1_000_000_000_000),
        ];
        for (text, bytes) in rates {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_told_to_be() {
        let texts = [
            "",
            "M",
            "fast",
            "-5M",
            "5 M M",
            "5Mb",
            "5MiB",
            "5.M",
            ".5M",
            "1.2.3M",
            "0",
            "0M",
            "7B",
            "4000bit",
            "1001G",
            "99999999999999999999M",
            "5é",
            "5M/h",
        ];
        let told: Vec<_> = texts
            .iter()
            .map(|text| match text.parse::<Rate>() {
                Ok(rate) => panic!("{text:?} is taken for {rate:?}"),
                Err(why) => format!("{text:?}: {why}"),
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
