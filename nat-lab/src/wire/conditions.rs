//! The conditions of one direction of a wire, and their text form in files.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{self, RATE, SIZE, TIME};

/// What one direction of a wire does to frames.
///
/// In files every field is optional: `delay = "20 ms"`, `jitter = "5 ms"`, `loss = "1 %"`, `rate = "40 Mbit/s"`,
/// `queue = "64 KiB"`.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug, Default)]
#[serde(try_from = "Written", into = "Written")]
pub struct Conditions {
    /// Delay of each frame. Values over an hour count as an hour, here and in `jitter`.
    pub delay: Duration,
    /// Maximum additional random delay of each frame. Frames are never reordered.
    pub jitter: Duration,
    /// Fraction of frames that are lost, 0 to 1.
    pub loss: f64,
    /// Bits per second, counted from the Ethernet header to the end of the payload. `None` means no limit.
    pub rate: Option<u64>,
    /// Maximum number of bytes that wait for the rate. A frame that finds the line idle is sent whatever its size.
    /// `None` means what the rate carries in 100 ms, but at least ten full frames. Without a rate nothing waits.
    pub queue: Option<u64>,
}

impl Conditions {
    /// True if frames pass unchanged.
    pub fn is_plain(&self) -> bool {
        self.delay.is_zero() && self.jitter.is_zero() && self.loss <= 0.0 && self.rate.is_none()
    }
}

/// Writes a phrase such as `20 ms, 40 Mbit/s, 1 % lost`.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() {
            return f.write_str("no conditions");
        }
        let written = Written::from(*self);
        let jitter = written
            .jitter
            .map(|jitter| format!("up to {jitter} of jitter"));
        let queue = written
            .queue
            .filter(|_| self.rate.is_some())
            .map(|queue| format!("a queue of {queue}"));
        let loss = written.loss.map(|loss| format!("{loss} lost"));
        let parts: Vec<String> = [written.delay, jitter, written.rate, queue, loss]
            .into_iter()
            .flatten()
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// The text form. Conditions that are not set are left out.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
}

impl TryFrom<Written> for Conditions {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let rate = read("rate", written.rate, |text| RATE.parse(text))?;
        if rate == Some(0) {
            return Err("rate: nothing passes at 0 bit/s; for that, write loss = \"100 %\"".into());
        }
        Ok(Self {
            delay: read("delay", written.delay, time)?.unwrap_or_default(),
            jitter: read("jitter", written.jitter, time)?.unwrap_or_default(),
            loss: read("loss", written.loss, units::parse_share)?.unwrap_or_default(),
            rate,
            queue: read("queue", written.queue, |text| SIZE.parse(text))?,
        })
    }
}

/// Parses `text`, if there is any. Errors begin with the name of the field.
fn read<T>(
    field: &str,
    text: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    text.map(|text| parse(&text))
        .transpose()
        .map_err(|error| format!("{field}: {error}"))
}

fn time(text: &str) -> Result<Duration, String> {
    TIME.parse(text).map(Duration::from_nanos)
}

impl From<Conditions> for Written {
    fn from(conditions: Conditions) -> Self {
        let time = |time: Duration| {
            (!time.is_zero())
                .then(|| TIME.write(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
        };
        Self {
            delay: time(conditions.delay),
            jitter: time(conditions.jitter),
            loss: (conditions.loss > 0.0).then(|| units::write_share(conditions.loss)),
            rate: conditions.rate.map(|rate| RATE.write(rate)),
            queue: conditions.queue.map(|queue| SIZE.write(queue)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Conditions {
        Conditions {
            delay: Duration::from_millis(20),
            jitter: Duration::from_micros(500),
            loss: 0.01,
            rate: Some(40_000_000),
            queue: Some(65_536),
        }
    }

    #[test]
    fn conditions_are_read_and_written_in_the_same_words() {
        let words = "delay = \"20 ms\"\njitter = \"500 µs\"\nloss = \"1 %\"\nrate = \"40 Mbit/s\"\nqueue = \"64 KiB\"";
        assert_eq!(toml::from_str::<Conditions>(words).unwrap(), all());
        let json = serde_json::to_string(&all()).unwrap();
        assert_eq!(
            json,
            r#"{"delay":"20 ms","jitter":"500 µs","loss":"1 %","rate":"40 Mbit/s","queue":"64 KiB"}"#
        );
        assert_eq!(serde_json::from_str::<Conditions>(&json).unwrap(), all());
    }

    #[test]
    fn what_is_not_written_is_not_asked_for() {
        let plain: Conditions = toml::from_str("").unwrap();
        assert_eq!(plain, Conditions::default());
        assert!(plain.is_plain());
        assert_eq!(serde_json::to_string(&plain).unwrap(), "{}");
        assert!(
            !toml::from_str::<Conditions>("loss = \"1 %\"")
                .unwrap()
                .is_plain()
        );
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        for (words, named) in [
            ("delay = \"20 parsecs\"", ["delay", "20 parsecs"]),
            ("loss = \"120 %\"", ["loss", "120 %"]),
            ("rate = \"0 bit/s\"", ["rate", "0 bit/s"]),
            ("speed = \"40 Mbit/s\"", ["unknown field", "speed"]),
            ("delay = 20", ["20", "string"]),
        ] {
            let error = toml::from_str::<Conditions>(words).unwrap_err().to_string();
            assert!(named.iter().all(|name| error.contains(name)), "{error}");
        }
    }

    #[test]
    fn conditions_are_said_in_a_phrase() {
        assert_eq!(Conditions::default().to_string(), "no conditions");
        let some = Conditions {
            jitter: Duration::ZERO,
            queue: None,
            ..all()
        };
        assert_eq!(some.to_string(), "20 ms, 40 Mbit/s, 1 % lost");
        assert_eq!(
            all().to_string(),
            "20 ms, up to 500 µs of jitter, 40 Mbit/s, a queue of 64 KiB, 1 % lost"
        );
    }
}
