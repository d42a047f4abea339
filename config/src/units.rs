//! Sizes and times as people write them: `64MiB`, `1.5ms`. A bare number would leave the unit to memory, so only 0 needs none.
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZES: [(&str, u64); 6] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("{why}; expected a size like 512B, 64KiB, 100MiB or 2TiB");
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| wrong(format!("{text:?} is not a size")))?;
        let factor = match unit {
            "" if number == 0 => 1,
            "" => return Err(wrong(format!("{text:?} has no unit"))),
            unit => match SIZES.iter().find(|(name, _)| *name == unit) {
                Some((_, factor)) => *factor,
                None => {
                    let meant = SIZES.iter().find(|(name, _)| {
                        let short = name.replace('i', "");
                        unit.eq_ignore_ascii_case(&short)
                            || unit.eq_ignore_ascii_case(&name[..1])
                            || unit.eq_ignore_ascii_case(name)
                    });
                    let hint = meant.map_or(String::new(), |(name, _)| format!(" (did you mean {name}?)"));
                    return Err(wrong(format!("{unit:?} is not a unit{hint}")));
                }
            },
        };
        number
            .checked_mul(factor)
            .map(Size)
            .ok_or_else(|| wrong(format!("{text:?} is more than 64 bits can count")))
    }
}

impl fmt::Display for Size {
    /// In the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZES
            .iter()
            .find(|(_, factor)| self.0.is_multiple_of(*factor) && self.0 > 0)
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// A time span, to the microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const SPANS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("{why}; expected a time like 250us, 5ms or 2s");
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| wrong(format!("{text:?} is not a time")))?;
        let factor = match (unit, number) {
            ("", 0) => 1,
            ("", _) => return Err(wrong(format!("{text:?} has no unit"))),
            (unit, _) => {
                SPANS
                    .iter()
                    .find(|(name, _)| *name == unit)
                    .ok_or_else(|| wrong(format!("{unit:?} is not a unit")))?
                    .1
            }
        };
        let micros = number
            .checked_mul(factor)
            .ok_or_else(|| wrong(format!("{text:?} is too long")))?;
        Ok(Span(Duration::from_micros(micros)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Longer ones do not come in, see `from_str`.
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        let fits = |(_, factor): &&(&str, u64)| micros.is_multiple_of(*factor) && micros > 0;
        let (unit, factor) = SPANS.iter().rev().find(fits).unwrap_or(&("us", 1));
        write!(f, "{}{unit}", micros / factor)
    }
}

/// A time of day, in minutes since midnight: `02:30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOfDay(pub u16);

impl FromStr for TimeOfDay {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let part = |text: &str, end: u16| text.parse::<u16>().ok().filter(|part| digits(text) && *part < end);
        text.split_once(':')
            .and_then(|(hour, minute)| Some(Self(part(hour, 24)? * 60 + part(minute, 60)?)))
            .ok_or_else(|| format!("{text:?} is not a time of day; expected one like \"02:00\" or \"23:30\""))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Digits, and what follows them without blanks.
fn split(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim_start())
}

macro_rules! as_text {
    ($type:ty, $what:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
as_text!(Size, "a size like 64MiB");
as_text!(Span, "a time like 5ms");
as_text!(TimeOfDay, "a time of day like \"02:00\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_are_written() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 64 << 10),
            ("3 MiB", 3 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
            ("0", 0),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.0, bytes);
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
        assert_eq!(Size(1536).to_string(), "1536B");
        assert_eq!(Size(3 << 20).to_string(), "3MiB");
        assert_eq!(Size(0).to_string(), "0B");
    }

    #[test]
    fn a_wrong_size_says_what_is_right() {
        let error = |text: &str| text.parse::<Size>().unwrap_err();
        assert_eq!(
            error("64MB"),
            "\"MB\" is not a unit (did you mean MiB?); expected a size like 512B, 64KiB, 100MiB or 2TiB"
        );
        assert_eq!(
            error("1g"),
            "\"g\" is not a unit (did you mean GiB?); expected a size like 512B, 64KiB, 100MiB or 2TiB"
        );
        assert!(error("4096").starts_with("\"4096\" has no unit;"));
        assert!(error("-1MiB").starts_with("\"-1MiB\" is not a size;"));
        assert!(error("99999999PiB").starts_with("\"99999999PiB\" is more than 64 bits can count;"));
    }

    #[test]
    fn spans_read_as_they_are_written() {
        for (text, micros) in [
            ("250us", 250),
            ("5ms", 5000),
            ("2s", 2_000_000),
            ("1min", 60_000_000),
            ("36h", 129_600_000_000),
            ("7d", 604_800_000_000),
            ("0", 0),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_micros(), micros);
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        assert_eq!(Span(Duration::from_secs(604_800)).to_string(), "7d");
        assert!("5".parse::<Span>().unwrap_err().starts_with("\"5\" has no unit;"));
        assert!("5m".parse::<Span>().unwrap_err().starts_with("\"m\" is not a unit;"));
    }

    #[test]
    fn times_of_day_read_as_they_are_written() {
        for (text, minutes) in [("00:00", 0), ("02:30", 150), ("23:59", 1439)] {
            let time: TimeOfDay = text.parse().unwrap();
            assert_eq!((time.0, time.to_string().as_str()), (minutes, text));
        }
        for text in ["24:00", "2:30", "02:60", "0230", "02:+3", ""] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
    }
}
