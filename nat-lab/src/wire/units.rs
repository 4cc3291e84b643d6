//! Quantities as people write them: a number, with or without a decimal point, and a unit.

/// A quantity and its units.
pub(super) struct Quantity {
    /// What the text should have been, for errors.
    expected: &'static str,
    /// The units and the value of each. Amounts are written in the first unit that leaves no remainder.
    units: &'static [(&'static str, u64)],
}

/// Times, in nanoseconds.
pub(super) const TIME: Quantity = Quantity {
    expected: "a time such as \"20 ms\" (s, ms, µs, us, ns)",
    units: &[
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("µs", 1_000),
        ("us", 1_000),
        ("ns", 1),
    ],
};

/// Rates, in bits per second.
pub(super) const RATE: Quantity = Quantity {
    expected: "a rate such as \"40 Mbit/s\" (Gbit/s, Mbit/s, kbit/s, bit/s)",
    units: &[
        ("Gbit/s", 1_000_000_000),
        ("Mbit/s", 1_000_000),
        ("kbit/s", 1_000),
        ("bit/s", 1),
    ],
};

/// Sizes, in bytes.
pub(super) const SIZE: Quantity = Quantity {
    expected: "a size such as \"64 KiB\" (GiB, MiB, KiB, MB, kB, B)",
    units: &[
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ],
};

impl Quantity {
    /// Returns the amount in `text`. Errors contain the text and the expected format.
    pub(super) fn parse(&self, text: &str) -> Result<u64, String> {
        let text = text.trim();
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        // No unit contains a digit, so the unit is what follows the last digit.
        let unit = text[number.len()..].trim();
        self.units
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|&(_, worth)| exactly(number, worth))
            .ok_or_else(|| format!("{text:?} is not {}", self.expected))
    }

    /// Writes `amount` so that [`Self::parse`] can read it.
    pub(super) fn write(&self, amount: u64) -> String {
        let whole = |&&(_, worth): &&(&str, u64)| amount != 0 && amount.is_multiple_of(worth);
        match self.units.iter().find(whole).or(self.units.last()) {
            Some((unit, worth)) => format!("{} {unit}", amount / worth),
            None => amount.to_string(),
        }
    }
}

/// Returns a decimal number times `worth`, if that is a whole number in range.
fn exactly(number: &str, worth: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let product = digits
        .parse::<u128>()
        .ok()?
        .checked_mul(u128::from(worth))?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    product
        .is_multiple_of(divisor)
        .then(|| u64::try_from(product / divisor).ok())?
}

/// Factor for rounding percentages to ten decimals. More would show rounding errors of the division by a hundred.
const DECIMALS: f64 = 1e10;

/// Returns the fraction, 0 to 1, of a percentage such as `1.5 %`.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let number = text
        .trim()
        .strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok());
    match number {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!(
            "{:?} is not a share such as \"1.5 %\" (0 % to 100 %)",
            text.trim()
        )),
    }
}

/// Writes the fraction `share`, 0 to 1, as a percentage.
pub(super) fn write_share(share: f64) -> String {
    format!("{} %", (share * 100.0 * DECIMALS).round() / DECIMALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_every_unit() {
        assert_eq!(TIME.parse("20 ms"), Ok(20_000_000));
        assert_eq!(TIME.parse("1.5ms"), Ok(1_500_000));
        assert_eq!(TIME.parse(" 3 µs "), TIME.parse("3 us"));
        assert_eq!(TIME.parse("0 s"), Ok(0));
        assert_eq!(RATE.parse("40 Mbit/s"), Ok(40_000_000));
        assert_eq!(RATE.parse("0.064 Mbit/s"), RATE.parse("64 kbit/s"));
        assert_eq!(SIZE.parse("64 KiB"), Ok(65_536));
        assert_eq!(SIZE.parse("64 kB"), Ok(64_000));
    }

    #[test]
    fn what_is_no_amount_is_named_in_the_error() {
        for wrong in [
            "",
            "20",
            "ms",
            "20 parsecs",
            "-1 ms",
            ".5 ms",
            "1.2.3 ms",
            "0.1 ns",
            "1 MS",
            "1e3 ms",
            "99999999999999999999 s",
        ] {
            let error = TIME.parse(wrong).expect_err(wrong);
            assert!(
                error.contains(&format!("{wrong:?}")) && error.contains("20 ms"),
                "{error}"
            );
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_unit_that_keeps_them_whole() {
        for (written, quantity) in [
            ("2 s", TIME),
            ("1500 ms", TIME),
            ("7 µs", TIME),
            ("0 ns", TIME),
            ("1 Gbit/s", RATE),
            ("1500 kbit/s", RATE),
            ("64 KiB", SIZE),
            ("1500 B", SIZE),
        ] {
            assert_eq!(quantity.write(quantity.parse(written).unwrap()), written);
        }
    }

    #[test]
    fn shares_are_percentages_from_none_to_all() {
        for (share, written) in [
            (0.0, "0 %"),
            (0.07, "7 %"),
            (0.015, "1.5 %"),
            (1.0, "100 %"),
            (0.000_1, "0.01 %"),
        ] {
            assert_eq!(write_share(share), written);
            assert_eq!(parse_share(written), Ok(share));
        }
        assert_eq!(parse_share("3%"), Ok(0.03));
        for wrong in ["1", "101 %", "-1 %", "NaN %", "inf %", "%"] {
            assert!(parse_share(wrong).expect_err(wrong).contains(wrong));
        }
    }
}
