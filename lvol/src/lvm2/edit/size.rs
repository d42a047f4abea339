//! Sizes as LVM2's commands take them: `10g`, `512m`, `64k`, `8192s`; extents as `100`, `50%VG`, `100%FREE`; with `+` and `-` in front where
//! something changes. Units are powers of 1024 whatever their case, and a number without one counts MiB (`lvm(8)`, "Sizes").
use crate::plan::{Code, Refusal};
use serde_json::Value;

/// A sign in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// None: that is what it shall be.
    To,
    /// By how much it shall grow.
    Plus,
    /// By how much it shall shrink.
    Minus,
}

/// What a share is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Of all extents of the group.
    Group,
    /// Of its free ones.
    Free,
    /// Of all extents of the physical volumes that were named.
    Disks,
    /// Of the volume as it is.
    Volume,
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Extents.
    Extents(u64),
    /// Hundredths.
    Percent(u64, Of),
}

fn wrong(text: &str, wanted: &str) -> Refusal {
    Refusal::new(Code::BadOption, format!("{text:?} is not {wanted}"))
}

fn signed(text: &str) -> (Sign, &str) {
    match text.as_bytes().first() {
        Some(b'+') => (Sign::Plus, &text[1..]),
        Some(b'-') => (Sign::Minus, &text[1..]),
        _ => (Sign::To, text),
    }
}

/// A size: bytes as a number, or a text with a unit.
pub fn size(value: &Value) -> Result<(Sign, Amount), Refusal> {
    if let Some(bytes) = value.as_u64() {
        return Ok((Sign::To, Amount::Bytes(bytes)));
    }
    let all = value.as_str().unwrap_or_default();
    let wanted = "a size such as 10g, 512m, 64k or 8192s";
    let (sign, text) = signed(all);
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    // `10GiB` and `10gb` are as plain as `10g`.
    let unit = unit.to_ascii_lowercase();
    let unit = match unit.as_str() {
        "b" | "s" => unit.as_str(),
        other => other.trim_end_matches('b').trim_end_matches('i'),
    };
    let shift = match unit {
        "b" => 0,
        "s" => 9,
        "k" => 10,
        "" | "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => return Err(wrong(all, wanted)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let parsed: u128 = whole.parse().map_err(|_| wrong(all, wanted))?;
    let mut bytes = parsed.checked_shl(shift).unwrap_or(u128::MAX);
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok().filter(|n| *n <= 9);
        let part: u128 = fraction.parse().map_err(|_| wrong(all, wanted))?;
        let ten = digits.map(|n| 10u128.pow(n)).ok_or_else(|| wrong(all, wanted))?;
        bytes = bytes.saturating_add((part << shift) / ten);
    }
    let bytes = u64::try_from(bytes).map_err(|_| wrong(all, "a size of 64 bits"))?;
    Ok((sign, Amount::Bytes(bytes)))
}

/// A number of extents, or a share.
pub fn extents(value: &Value) -> Result<(Sign, Amount), Refusal> {
    if let Some(extents) = value.as_u64() {
        return Ok((Sign::To, Amount::Extents(extents)));
    }
    let all = value.as_str().unwrap_or_default();
    let wanted = "a number of extents such as 100, 50%VG, 100%FREE or 10%PVS";
    let (sign, text) = signed(all);
    let Some((number, of)) = text.split_once('%') else {
        let number = text.parse().map_err(|_| wrong(all, wanted))?;
        return Ok((sign, Amount::Extents(number)));
    };
    let number = number.parse().map_err(|_| wrong(all, wanted))?;
    let of = match of.to_ascii_uppercase().as_str() {
        "V" | "VG" => Of::Group,
        "F" | "FR" | "FREE" => Of::Free,
        "P" | "PVS" => Of::Disks,
        "L" | "LV" => Of::Volume,
        _ => return Err(wrong(all, wanted)),
    };
    Ok((sign, Amount::Percent(number, of)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_lvm2_reads_them() {
        let read = |text: &str| size(&text.into()).unwrap();
        assert_eq!(read("10g"), (Sign::To, Amount::Bytes(10 << 30)));
        assert_eq!(read("10GiB"), (Sign::To, Amount::Bytes(10 << 30)));
        assert_eq!(read("+512"), (Sign::Plus, Amount::Bytes(512 << 20)));
        assert_eq!(read("-8192s"), (Sign::Minus, Amount::Bytes(4 << 20)));
        assert_eq!(read("1.5k"), (Sign::To, Amount::Bytes(1536)));
        assert_eq!(read("77b"), (Sign::To, Amount::Bytes(77)));
        assert_eq!(size(&4096.into()), Ok((Sign::To, Amount::Bytes(4096))));
        for bad in ["", "g", "10x", "1.2.3g", "99999999999e", "0x10"] {
            assert!(size(&bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn extents_are_counted_or_shared() {
        let read = |text: &str| extents(&text.into()).unwrap();
        assert_eq!(read("100"), (Sign::To, Amount::Extents(100)));
        assert_eq!(read("+100%free"), (Sign::Plus, Amount::Percent(100, Of::Free)));
        assert_eq!(read("50%VG"), (Sign::To, Amount::Percent(50, Of::Group)));
        for bad in ["", "ten", "10%", "10%HORSES"] {
            assert!(extents(&bad.into()).is_err(), "{bad}");
        }
    }
}
