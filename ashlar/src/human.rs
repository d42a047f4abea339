//! Numbers for people: sizes in binary units, rates, times; and tables with aligned columns.
use comfy_table::{CellAlignment, Table, presets};

/// `1.5 GiB`: at most one decimal, and none for whole numbers.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.fract() == 0.0 {
        format!("{rounded:.0} {}", UNITS[unit])
    } else {
        format!("{rounded:.1} {}", UNITS[unit])
    }
}

/// `12.3k`: events per second, three significant digits.
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r < 0.05 => "0".into(),
        r if r < 10.0 => format!("{r:.1}"),
        r if r < 1e3 => format!("{r:.0}"),
        r if r < 1e5 => format!("{:.1}k", r / 1e3),
        r if r < 1e6 => format!("{:.0}k", r / 1e3),
        r => format!("{:.2}M", r / 1e6),
    }
}

/// `85 µs`, from seconds; `-` when there was nothing to time.
pub fn latency(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s <= 0.0 => "-".into(),
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// `37 %`.
pub fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// `2026-11-28 21:14:42`, from seconds since 1970.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, in eras of 400 years, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A table without lines. Columns whose heading starts with `>` are right-aligned.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
    table.add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_868_799), "2000-02-29 23:59:59");
        assert_eq!(utc(951_868_800), "2000-03-01 00:00:00");
        assert_eq!(utc(1_795_900_482), "2026-11-28 21:14:42");
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        let cases = [
            (0, "0 B"),
            (512, "512 B"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn rates_and_times_keep_about_three_digits() {
        assert_eq!(
            [rate(0.0), rate(7.25), rate(999.4), rate(12_345.0), rate(250_000.0)],
            ["0", "7.2", "999", "12.3k", "250k"]
        );
        assert_eq!(
            [latency(0.0), latency(85e-6), latency(0.0123), latency(2.5)],
            ["-", "85 µs", "12.3 ms", "2.5 s"]
        );
    }

    #[test]
    fn columns_line_up() {
        let text = table(
            &["NAME", ">SIZE"],
            [vec!["a".into(), "1 GiB".into()], vec!["longer".into(), "64 MiB".into()]],
        );
        assert_eq!(text, "NAME      SIZE\na        1 GiB\nlonger  64 MiB\n");
    }
}
