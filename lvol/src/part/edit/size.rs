//! Sizes as options have them: bytes as a number; as a text with a unit, `10g`, `512MiB`, `8192s`.
use crate::plan::{Code, Refusal};
use serde_json::Value;

/// What a size is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is the size.
    Is,
    /// More by this.
    More,
    /// Less by this.
    Less,
}

/// Reads a size, in bytes. Units are binary; `s` is 512 bytes. A number without one would be bytes to some and sectors to others, so it is refused.
pub fn read(option: &str, value: &Value) -> Result<(Sign, u64), Refusal> {
    let bad = |why: String| Refusal::new(Code::BadOption, format!("{option}: {why}"));
    if let Some(bytes) = value.as_u64() {
        return Ok((Sign::Is, bytes));
    }
    let text = value.as_str().ok_or_else(|| bad(format!("{value} is no size")))?.trim();
    let (sign, rest) = match text.as_bytes().first() {
        Some(b'+') => (Sign::More, &text[1..]),
        Some(b'-') => (Sign::Less, &text[1..]),
        _ => (Sign::Is, text),
    };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = rest.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad(format!("{text:?} is no size")))?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").unwrap_or(&unit);
    let bytes = match unit {
        "b" | "bytes" => 1,
        "s" => 512,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        "" => {
            let why = format!("{text:?} has no unit");
            return Err(bad(why).but("write 512m, 10g or 8192s; s is 512 bytes, b is one"));
        }
        other => return Err(bad(format!("{other:?} is no unit")).but("units are b, s, k, m, g, t, p")),
    };
    let bytes = number
        .checked_mul(bytes)
        .ok_or_else(|| bad(format!("{text:?} is too large")))?;
    Ok((sign, bytes))
}

/// A size that must be whole blocks, counted in them.
pub fn blocks(option: &str, value: &Value, block_size: u32) -> Result<(Sign, u64), Refusal> {
    let (sign, bytes) = read(option, value)?;
    let size = u64::from(block_size.max(1));
    match bytes.is_multiple_of(size) {
        true => Ok((sign, bytes / size)),
        false => {
            let why = format!("{option}: {bytes} bytes are not whole blocks of {size}");
            Err(Refusal::new(Code::BadOption, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_have_units() {
        for (value, bytes) in [
            (json!(4096), (Sign::Is, 4096)),
            (json!("10g"), (Sign::Is, 10 << 30)),
            (json!("512MiB"), (Sign::Is, 512 << 20)),
            (json!("+8192s"), (Sign::More, 4 << 20)),
            (json!("-1 k"), (Sign::Less, 1024)),
            (json!("7B"), (Sign::Is, 7)),
        ] {
            assert_eq!(read("size", &value), Ok(bytes), "{value}");
        }
        for bad in [
            json!("10"),
            json!("g"),
            json!("1x"),
            json!(-1),
            json!(""),
            json!("99999999999p"),
            json!(null),
        ] {
            assert_eq!(read("size", &bad).unwrap_err().code, Code::BadOption, "{bad}");
        }
        assert_eq!(blocks("size", &json!("4k"), 4096), Ok((Sign::Is, 1)));
        assert_eq!(blocks("size", &json!("1s"), 4096).unwrap_err().code, Code::BadOption);
    }
}
