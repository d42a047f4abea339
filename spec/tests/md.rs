//! Linux MD's addresses against arrays that Linux wrote (md/layouts.txt), and their inverses.
use proptest::prelude::*;
use spec::md::{
    Level, Place,
    linear::Linear,
    parity::{Layout, Parity, Role},
    raid10::{self, Raid10},
    zones::{Counting, Zones},
};

/// What a chunk of a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Data(u64),
    Value(u64),
}

/// What chunk `n` of every array was filled with.
fn fill(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

struct Array {
    name: String,
    level: Level,
    layout: u32,
    size: u64,
    chunk: u32,
    sectors: u64,
    members: Vec<Vec<Cell>>,
}

fn arrays() -> Vec<Array> {
    let mut all: Vec<Array> = Vec::new();
    for line in include_str!("md/layouts.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split(' ').collect();
        if let [
            "array",
            name,
            "level",
            level,
            "layout",
            layout,
            "size",
            size,
            "chunk",
            chunk,
            "sectors",
            sectors,
        ] = words[..]
        {
            all.push(Array {
                name: name.into(),
                level: Level::from_number(level.parse().unwrap()),
                layout: layout.parse().unwrap(),
                size: size.parse().unwrap(),
                chunk: chunk.parse().unwrap(),
                sectors: sectors.parse().unwrap(),
                members: Vec::new(),
            });
            continue;
        }
        let cell = |word: &&str| match word.strip_prefix('x') {
            Some(hex) => Cell::Value(u64::from_str_radix(hex, 16).unwrap()),
            None if *word == "-" => Cell::Value(0),
            None => Cell::Data(word.parse().unwrap()),
        };
        all.last_mut().unwrap().members.push(words.iter().map(cell).collect())
    }
    all
}

/// Each byte times 2, modulo 0x11d.
fn double(word: u64) -> u64 {
    let byte = |b: u8| (b << 1) ^ if b & 0x80 == 0 { 0 } else { 0x1d };
    u64::from_le_bytes(word.to_le_bytes().map(byte))
}

#[test]
fn parity_is_where_linux_puts_it() {
    let mut layouts = std::collections::BTreeSet::new();
    for array in arrays() {
        if !matches!(array.level, Level::Raid4 | Level::Raid5 | Level::Raid6) {
            continue;
        }
        let name = &array.name;
        let layout = Layout::from_number(array.level, array.layout).unwrap();
        if array.level != Level::Raid4 {
            assert_eq!(layout.number(), array.layout);
            assert!(
                name.contains(&format!("-{}-", layout.name())),
                "{name}: {}",
                layout.name()
            );
        }
        layouts.insert((array.level.number(), array.layout, array.members.len()));
        let shape = Parity::new(layout, array.members.len() as u16, array.chunk, array.size).unwrap();
        assert_eq!(shape.sectors(), array.sectors, "{name}");
        for row in 0..array.members[0].len() as u64 {
            let (mut p, mut q, mut terms) = (0, 0, Vec::new());
            for (member, cells) in array.members.iter().enumerate() {
                let place = Place {
                    member: member as u16,
                    sector: row * u64::from(array.chunk) + 3,
                };
                let (role, sector) = shape.find(place).unwrap();
                match (role, cells[row as usize]) {
                    (Role::Data(_), Cell::Data(n)) => {
                        assert_eq!(
                            sector,
                            Some(n * u64::from(array.chunk) + 3),
                            "{name}, row {row}, member {member}"
                        );
                        assert_eq!(
                            shape.place(sector.unwrap()),
                            place,
                            "{name}, row {row}, member {member}"
                        );
                        terms.push((shape.row(row).coefficient(member as u16), fill(n)))
                    }
                    (Role::P, Cell::Value(value)) => p = value,
                    (Role::Q, Cell::Value(value)) => q = value,
                    (role, cell) => panic!("{name}, row {row}, member {member}: {cell:?} where {role:?} should be"),
                }
            }
            assert_eq!(
                p,
                terms.iter().fold(0, |sum, (_, data)| sum ^ data),
                "{name}, row {row}: P"
            );
            if layout.parities() == 2 {
                let times = |power: u16, data| (0..power).fold(data, |data, _| double(data));
                let sum = terms.iter().fold(0, |sum, (power, data)| sum ^ times(*power, *data));
                assert_eq!(q, sum, "{name}, row {row}: Q");
            }
        }
    }
    // RAID-4 of 3 and 5, six layouts of RAID-5 of 3 to 5, fourteen of RAID-6 of 4 to 6.
    assert_eq!(layouts.len(), 2 + 6 * 3 + 14 * 3);
}

#[test]
fn copies_are_where_linux_puts_them() {
    let mut count = 0;
    for array in arrays().into_iter().filter(|array| array.level == Level::Raid10) {
        let name = &array.name;
        let layout = raid10::Layout::from_number(array.layout).unwrap();
        assert_eq!(layout.number(), array.layout);
        let shape = Raid10::new(layout, array.members.len() as u16, array.chunk, array.size).unwrap();
        assert_eq!(shape.sectors(), array.sectors, "{name}");
        let chunk = u64::from(array.chunk);
        for (member, cells) in array.members.iter().enumerate() {
            for (line, cell) in cells.iter().enumerate() {
                let place = Place {
                    member: member as u16,
                    sector: line as u64 * chunk + 5,
                };
                match (shape.find(place), cell) {
                    (Some((sector, copy)), Cell::Data(n)) => {
                        assert_eq!(sector, n * chunk + 5, "{name}, member {member}, line {line}");
                        assert_eq!(shape.places(sector).nth(copy.into()), Some(place), "{name}");
                    }
                    (None, Cell::Value(0)) => {}
                    (found, cell) => panic!("{name}, member {member}, line {line}: {cell:?} is not {found:?}"),
                }
            }
        }
        for number in 0..array.sectors / chunk {
            assert_eq!(shape.places(number * chunk).count(), usize::from(layout.copies()));
            for place in shape.places(number * chunk) {
                let cell = array.members[usize::from(place.member)][(place.sector / chunk) as usize];
                assert_eq!(cell, Cell::Data(number), "{name}, {place:?}");
            }
        }
        count += 1
    }
    assert_eq!(count, 27);
}

#[test]
fn zones_are_where_linux_puts_them() {
    let mut count = 0;
    for array in arrays().into_iter().filter(|array| array.level == Level::Raid0) {
        let (name, chunk) = (&array.name, u64::from(array.chunk));
        let sizes: Vec<u64> = array
            .members
            .iter()
            .map(|cells| cells.len() as u64 * chunk + 7)
            .collect();
        let counting = Counting::from_number(array.layout);
        let shape = Zones::new(&sizes, array.chunk, counting).unwrap();
        assert_eq!(shape.sectors(), array.sectors, "{name}");
        for (member, cells) in array.members.iter().enumerate() {
            for (line, cell) in cells.iter().enumerate() {
                let place = Place {
                    member: member as u16,
                    sector: line as u64 * chunk + 5,
                };
                let sector = shape.find(place).unwrap();
                assert_eq!(
                    Cell::Data(sector / chunk),
                    *cell,
                    "{name}, member {member}, line {line}"
                );
                assert_eq!(shape.place(sector), place, "{name}");
            }
        }
        match shape.zones() {
            1 => assert_eq!(Zones::new(&sizes, array.chunk, None).unwrap().sectors(), array.sectors),
            _ => assert!(
                Zones::new(&sizes, array.chunk, None).is_err(),
                "{name}: which of the two is not known"
            ),
        }
        count += 1
    }
    assert_eq!(count, 6);
}

fn parity_layouts() -> impl Strategy<Value = Layout> {
    let raid5 = (0..6u32).prop_map(|n| Layout::from_number(Level::Raid5, n).unwrap());
    let raid6 = prop::sample::select(vec![0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 18, 19, 20])
        .prop_map(|n| Layout::from_number(Level::Raid6, n).unwrap());
    prop_oneof![raid5, raid6]
}

proptest! {
    /// Every place of a row is one thing, and coefficients of Q are each somebody's once.
    #[test]
    fn rows_of_parity(layout in parity_layouts(), members in 4u16..=250, row in 0u64..1 << 40, chunk in 1u32..=4096) {
        let shape = Parity::new(layout, members, chunk, SIZE).unwrap();
        let (row_of, n) = (shape.row(row), shape.data());
        let mut coefficients = Vec::new();
        for data in 0..n {
            let member = row_of.member(data);
            prop_assert_eq!(row_of.role(member), Role::Data(data));
            coefficients.push(row_of.coefficient(member))
        }
        prop_assert_eq!(row_of.role(row_of.p), Role::P);
        if let Some(q) = row_of.q {
            prop_assert_eq!(row_of.role(q), Role::Q);
        }
        coefficients.sort_unstable();
        if layout.counts_all() {
            coefficients.dedup();
            prop_assert_eq!(coefficients.len(), usize::from(n));
            prop_assert!(coefficients[usize::from(n) - 1] < members);
        } else if layout.parities() == 2 {
            prop_assert!(coefficients.into_iter().eq(0..n));
        }
    }

    #[test]
    fn parity_there_and_back(layout in parity_layouts(), members in 4u16..=40, chunk in 1u32..=4096, sector in any::<u64>()) {
        let shape = Parity::new(layout, members, chunk, SIZE).unwrap();
        let sector = sector % shape.sectors();
        let (role, back) = shape.find(shape.place(sector)).unwrap();
        prop_assert!(matches!(role, Role::Data(_)));
        prop_assert_eq!(back, Some(sector));
        prop_assert_eq!(shape.find(Place { member: 0, sector: SIZE }), None);
    }

    #[test]
    fn copies_there_and_back(
        near in 1u8..=4, far in 1u8..=4, offset: bool, more in 0u16..=9, chunk in 1u32..=4096, size in 1u64 << 16..SIZE, sector in any::<u64>(),
    ) {
        let layout = raid10::Layout { near, far, offset };
        let members = layout.copies() + more;
        let shape = Raid10::new(layout, members, chunk, size).unwrap();
        let sector = sector % shape.sectors();
        let places: Vec<_> = shape.places(sector).collect();
        let mut on: Vec<_> = places.iter().map(|place| place.member).collect();
        on.sort_unstable();
        on.dedup();
        prop_assert_eq!(on.len(), usize::from(layout.copies()), "each on a member of its own");
        for (copy, place) in places.into_iter().enumerate() {
            prop_assert!(place.sector < size);
            prop_assert_eq!(shape.find(place), Some((sector, copy as u16)));
        }
    }

    #[test]
    fn zones_there_and_back(sizes in prop::collection::vec(0u64..5000, 1..12), chunk in 1u32..=64, original: bool, sector in any::<u64>()) {
        let counting = if original { Counting::Original } else { Counting::Alternate };
        let whole = |size: &u64| size - size % u64::from(chunk);
        prop_assume!(sizes.iter().any(|size| whole(size) > 0));
        let shape = Zones::new(&sizes, chunk, Some(counting)).unwrap();
        prop_assert_eq!(shape.sectors(), sizes.iter().map(whole).sum::<u64>());
        let sector = sector % shape.sectors();
        let place = shape.place(sector);
        prop_assert!(place.sector < whole(&sizes[usize::from(place.member)]));
        prop_assert_eq!(shape.find(place), Some(sector));
    }

    #[test]
    fn linear_there_and_back(sizes in prop::collection::vec(0u64..5000, 1..12), chunk in 0u32..=64, sector in any::<u64>()) {
        let whole = |size: &u64| size - size % u64::from(chunk.max(1));
        prop_assume!(sizes.iter().any(|size| whole(size) > 0));
        let shape = Linear::new(&sizes, chunk).unwrap();
        prop_assert_eq!(shape.sectors(), sizes.iter().map(whole).sum::<u64>());
        let sector = sector % shape.sectors();
        let place = shape.place(sector);
        prop_assert!(place.sector < whole(&sizes[usize::from(place.member)]));
        prop_assert_eq!(shape.find(place), Some(sector));
    }
}

/// Sectors of a member: 16 TiB.
const SIZE: u64 = 1 << 35;

#[test]
fn shapes_that_make_no_sense_are_refused() {
    for (level, layout) in [
        (Level::Raid5, 6),
        (Level::Raid6, 6),
        (Level::Raid6, 7),
        (Level::Raid6, 11),
        (Level::Raid6, 21),
        (Level::Raid1, 0),
    ] {
        assert!(Layout::from_number(level, layout).is_err(), "{level} {layout}");
    }
    for layout in [0, 0x100, 2, 0x2_0102, 0x1000_0102] {
        assert!(raid10::Layout::from_number(layout).is_err(), "{layout:#x}");
    }
    let p = Layout::from_number(Level::Raid5, 2).unwrap();
    let pq = Layout::from_number(Level::Raid6, 2).unwrap();
    assert!(
        Parity::new(p, 1, 8, 100).is_err()
            && Parity::new(pq, 2, 8, 100).is_err()
            && Parity::new(pq, 256, 8, 100).is_err()
    );
    assert!(Parity::new(p, 3, 0, 100).is_err() && Parity::new(p, 3, 8, u64::MAX).is_err());
    assert!(
        Raid10::new(
            raid10::Layout {
                near: 2,
                far: 2,
                offset: false
            },
            3,
            8,
            100
        )
        .is_err()
    );
    assert!(
        Zones::new(&[], 8, None).is_err()
            && Zones::new(&[7, 3], 8, None).is_err()
            && Zones::new(&[u64::MAX, 3], 8, None).is_err()
    );
    let zones = Zones::new(&[104, 100, 200], 8, Some(Counting::Alternate)).unwrap();
    for sector in [200, 1 << 54, u64::MAX] {
        assert_eq!(zones.find(Place { member: 2, sector }), None);
    }
    assert!(Linear::new(&[], 0).is_err() && Linear::new(&[1 << 54, 1], 0).is_err());
}
