//! Sizes as LVM2's reports print them (`lvmreport(7)`, "--units"): `60.00m`, `<10.31m` where rounding made it larger, `8388608B`.

/// How sizes are printed.
#[derive(Clone, Copy, Debug)]
pub struct Units {
    unit: char,
    suffix: bool,
}

impl Units {
    /// By LVM2's letter.
    pub fn new(letter: char, suffix: bool) -> Result<Self, String> {
        match "rhHbBsSkKmMgGtTpPeE".contains(letter) {
            true => Ok(Self { unit: letter, suffix }),
            false => Err(format!(
                "{letter:?} is no unit; one of r h b s k m g t p e, in capitals for powers of 1000"
            )),
        }
    }

    /// A size.
    pub fn print(self, bytes: u64) -> String {
        const LETTERS: [(char, u32); 6] = [('e', 6), ('p', 5), ('t', 4), ('g', 3), ('m', 2), ('k', 1)];
        let human = matches!(self.unit, 'r' | 'h' | 'H');
        let thousand: u64 = if self.unit.is_ascii_uppercase() { 1000 } else { 1024 };
        let lower = self.unit.to_ascii_lowercase();
        let chosen = match lower {
            'b' => None,
            's' => return format!("{}{}", bytes / 512, if self.suffix { "S" } else { "" }),
            _ if human => LETTERS.into_iter().find(|(_, power)| bytes >= thousand.pow(*power)),
            _ => LETTERS.into_iter().find(|(letter, _)| *letter == lower),
        };
        // Nothing is written without a fraction, and by people's units without a letter.
        if bytes == 0 {
            return match (self.suffix, human) {
                (false, _) => "0".to_owned(),
                (true, true) => "0 ".to_owned(),
                (true, false) => format!("0{}", if lower == 'b' { 'B' } else { self.unit }),
            };
        }
        let Some((letter, power)) = chosen else {
            return format!("{bytes}{}", if self.suffix { "B" } else { "" });
        };
        let factor = u128::from(thousand).pow(power);
        // Hundredths, rounded half up as printf does for what is not a tie.
        let hundredths = (u128::from(bytes) * 100 + factor / 2) / factor;
        let above = self.unit == 'r' && hundredths * factor > u128::from(bytes) * 100;
        let letter = if self.unit.is_ascii_uppercase() {
            letter.to_ascii_uppercase()
        } else {
            letter
        };
        format!(
            "{}{}.{:02}{}",
            if above { "<" } else { "" },
            hundredths / 100,
            hundredths % 100,
            if self.suffix { letter.to_string() } else { String::new() }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_lvm2_2_03_16_prints_them() {
        let print = |letter, bytes| Units::new(letter, true).unwrap().print(bytes);
        let (a, b, c) = (1_080_320, 10_808_320, 1_049_600);
        assert_eq!(
            [print('r', a), print('r', b), print('r', c)],
            ["1.03m", "<10.31m", "1.00m"]
        );
        assert_eq!(
            [print('h', a), print('h', b), print('h', c)],
            ["1.03m", "10.31m", "1.00m"]
        );
        assert_eq!(
            [print('H', a), print('H', b), print('H', c)],
            ["1.08M", "10.81M", "1.05M"]
        );
        assert_eq!([print('b', a), print('B', b)], ["1080320B", "10808320B"]);
        assert_eq!(
            [print('s', a), print('k', a), print('g', b), print('M', b)],
            ["2110S", "1055.00k", "0.01g", "10.81M"]
        );
        assert_eq!([print('r', 0), print('m', 0), print('k', 0)], ["0 ", "0m", "0k"]);
        assert_eq!(Units::new('b', false).unwrap().print(8_388_608), "8388608");
        assert!(Units::new('x', true).is_err());
    }
}
