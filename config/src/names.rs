//! Names: of partitions and volumes, what hosts know them by, and the one that was probably meant.
/// `disk0p2` is a partition of `disk0`.
pub(crate) fn partition_of(name: &str) -> Option<&str> {
    let (disk, number) = name.rsplit_once('p')?;
    let digits = !number.is_empty() && number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit());
    (digits && !number.starts_with('0') && !disk.is_empty()).then_some(disk)
}

/// True for `group/volume`, as LVM2 names them. Whether there is one nobody knows before the disks are looked at.
pub(crate) fn volume_of_group(name: &str) -> bool {
    use spec::lvm2::vg::is_name;
    name.split_once('/')
        .is_some_and(|(group, volume)| is_name(group) && is_name(volume))
}

/// What a volume is called that has no name of its own. `/` and `+` may not be in the names hosts see; `:` is in no name of LVM2's.
pub(crate) fn volume_name(disk: &str) -> String {
    disk.replace('/', ":").replace('+', ".")
}

/// The IQN of a volume in the short form.
pub fn iqn(volume: &str) -> String {
    // RFC 3722: names are compared in lower case; `_` is not allowed in them.
    format!(
        "iqn.2026-11.io.ashlar:{}",
        volume.to_ascii_lowercase().replace('_', "-")
    )
}

/// The NQN of a volume in the short form.
pub fn nqn(volume: &str) -> String {
    format!("nqn.2026-11.io.ashlar:{volume}")
}

pub(crate) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a &'a str>) -> String {
    let more = names.len().saturating_sub(8);
    let mut text: Vec<String> = names.take(8).map(|name| format!("{name:?}")).collect();
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

/// Letters to change, add or drop to make one word of the other (Levenshtein). Names are short.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let here = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[b.len()]
}

pub(crate) fn is_nqn(text: &str) -> bool {
    text.starts_with("nqn.") && text.len() <= 223 && !text.chars().any(char::is_whitespace)
}

pub(crate) fn not_an_nqn(text: &str) -> String {
    format!("{text:?} is not an NQN; expected one like nqn.2026-11.io.ashlar:disk")
}
