//! Types and attributes by the words that sfdisk has for them.
use crate::plan::{Code, Refusal};
use uuid::{Uuid, uuid};

/// sfdisk's aliases: word, letter, GPT type, MBR type.
const ALIASES: [(&str, &str, Option<Uuid>, Option<u8>); 8] = [
    ("linux", "L", Some(spec::gpt::types::LINUX), Some(0x83)),
    (
        "swap",
        "S",
        Some(uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")),
        Some(0x82),
    ),
    ("extended", "E", None, Some(0x05)),
    ("home", "H", Some(uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915")), None),
    ("uefi", "U", Some(spec::gpt::types::EFI_SYSTEM), Some(0xef)),
    (
        "raid",
        "R",
        Some(uuid!("a19d880f-05fc-4d3b-a006-743f0f84911e")),
        Some(0xfd),
    ),
    (
        "lvm",
        "V",
        Some(uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928")),
        Some(0x8e),
    ),
    ("spdk", "", Some(spec::gpt::types::SPDK), None),
];

fn words(has: impl Fn(&(&str, &str, Option<Uuid>, Option<u8>)) -> bool) -> String {
    let all: Vec<&str> = ALIASES.iter().filter(|alias| has(alias)).map(|alias| alias.0).collect();
    all.join(", ")
}

/// Every word there is for a type, whether a table knows that type or not.
pub fn words_of_all() -> impl Iterator<Item = &'static str> {
    ALIASES.iter().map(|alias| alias.0)
}

fn alias(text: &str) -> Option<&'static (&'static str, &'static str, Option<Uuid>, Option<u8>)> {
    ALIASES
        .iter()
        .find(|alias| alias.0.eq_ignore_ascii_case(text) || (!alias.1.is_empty() && alias.1 == text))
}

/// A GPT type: a word, a letter or a GUID.
pub fn guid(text: &str) -> Result<Uuid, Refusal> {
    let found = match alias(text) {
        Some(alias) => alias.2,
        None => Uuid::try_parse(text).ok().filter(|guid| !guid.is_nil()),
    };
    found.ok_or_else(|| {
        let why = format!("{text:?} is no type of a GPT partition");
        Refusal::new(Code::BadOption, why).but(format!("a GUID, or one of {}", words(|alias| alias.2.is_some())))
    })
}

/// An MBR type: a word, a letter or two hexadecimal digits.
pub fn byte(text: &str) -> Result<u8, Refusal> {
    plain(text, "an MBR partition", &[0, spec::mbr::PROTECTIVE])
}

/// A type of two hexadecimal digits, or a word or letter for one, on any table that has such; `not` are no types of partitions there.
pub fn plain(text: &str, what: &str, not: &[u8]) -> Result<u8, Refusal> {
    let found = match alias(text) {
        Some(alias) => alias.3,
        None => {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            let hex = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let value = hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten();
            value.filter(|kind| !not.contains(kind))
        }
    };
    found.ok_or_else(|| {
        let why = format!("{text:?} is no type of {what}");
        let not: Vec<String> = not.iter().map(|kind| format!("{kind:02x}")).collect();
        Refusal::new(Code::BadOption, why).but(format!(
            "two hexadecimal digits other than {}, or one of {}",
            not.join(" and "),
            words(|alias| alias.3.is_some())
        ))
    })
}

/// Attribute bits of a GPT partition, by sfdisk's words: `RequiredPartition`, `NoBlockIOProtocol`, `LegacyBIOSBootable`, or the number of a bit
/// from 48 to 63.
pub fn attributes(list: &[String]) -> Result<u64, Refusal> {
    let mut bits = 0;
    for word in list {
        let number = word.strip_prefix("GUID:").unwrap_or(word);
        bits |= match word.to_ascii_lowercase().as_str() {
            "requiredpartition" | "required" => 1,
            "noblockioprotocol" => 1 << 1,
            "legacybiosbootable" => BOOTABLE,
            _ => match number.parse::<u32>() {
                Ok(bit @ 48..=63) => 1 << bit,
                _ => {
                    let why = format!("{word:?} is no attribute of a GPT partition");
                    return Err(Refusal::new(Code::BadOption, why)
                        .but("RequiredPartition, NoBlockIOProtocol, LegacyBIOSBootable, or a bit from 48 to 63"));
                }
            },
        };
    }
    Ok(bits)
}

/// Attribute bits as sfdisk prints them.
pub fn attribute_words(bits: u64) -> String {
    let named = [
        (1, "RequiredPartition"),
        (1 << 1, "NoBlockIOProtocol"),
        (BOOTABLE, "LegacyBIOSBootable"),
    ];
    let mut words: Vec<String> = named
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, word)| (*word).to_owned())
        .collect();
    let own: Vec<String> = (48..64)
        .filter(|bit| bits & (1 << bit) != 0)
        .map(|bit| bit.to_string())
        .collect();
    if !own.is_empty() {
        words.push(format!("GUID:{}", own.join(",")));
    }
    words.join(" ")
}

/// The bit that old firmware boots by.
pub const BOOTABLE: u64 = 1 << 2;

/// The longest name that a GPT keeps, in UTF-16 units.
pub const NAME_MAX: usize = 36;

/// A name that a GPT can keep.
pub fn name(text: &str) -> Result<(), Refusal> {
    let units = text.encode_utf16().count();
    if units > NAME_MAX || text.contains('\0') {
        let why =
            format!("{text:?} is no name of a GPT partition: it has {units} UTF-16 units, at most {NAME_MAX} fit");
        return Err(Refusal::new(Code::BadName, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_words_letters_and_numbers() {
        assert_eq!(guid("linux"), Ok(spec::gpt::types::LINUX));
        assert_eq!(guid("U"), Ok(spec::gpt::types::EFI_SYSTEM));
        assert_eq!(guid("6527994E-2C5A-4EEC-9613-8F5944074E8B"), Ok(spec::gpt::types::SPDK));
        assert_eq!(
            (byte("lvm"), byte("fd"), byte("0x7"), byte("E")),
            (Ok(0x8e), Ok(0xfd), Ok(7), Ok(5))
        );
        for bad in ["", "0", "00", "ee", "100", "+5", "home", "v"] {
            assert_eq!(byte(bad).unwrap_err().code, Code::BadOption, "{bad}");
        }
        for bad in ["extended", "83", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(guid(bad).unwrap_err().code, Code::BadOption, "{bad}");
        }
    }

    #[test]
    fn attributes_are_sfdisks() {
        let words = ["LegacyBIOSBootable", "RequiredPartition", "60", "GUID:63"].map(str::to_owned);
        let bits = attributes(&words).unwrap();
        assert_eq!(bits, 1 | 4 | 1 << 60 | 1 << 63);
        assert_eq!(attribute_words(bits), "RequiredPartition LegacyBIOSBootable GUID:60,63");
        assert!(attributes(&["47".into()]).is_err());
        assert!(name(&"ä".repeat(36)).is_ok() && name(&"ä".repeat(37)).is_err() && name("a\0").is_err());
    }
}
