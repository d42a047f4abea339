//! What must hold for any bytes handed over as something of MD's. Used by the fuzz targets `md_superblock`, `md_logs` and `md_shape` and by the
//! replay of their corpora.
use spec::md::{
    Level, Place, bad_blocks, bitmap, journal,
    linear::Linear,
    parity,
    parity::Parity,
    ppl, raid10,
    raid10::Raid10,
    redo, v0, v1,
    zones::{Counting, Zones},
};

/// First byte: bit 0 has the checksum mended so that damage reaches what is behind it. The rest is at the place of a superblock.
pub fn superblock(data: &[u8]) {
    let Some((&flags, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes[..bytes.len().min(v1::LEN_MAX)].to_vec();
    if flags & 1 != 0 {
        mend(&mut bytes)
    }
    if let Ok(read) = v1::Superblock::parse(&bytes) {
        assert!(read.roles.len() <= v1::ROLES_MAX && read.footprint() <= v1::LEN_MAX);
        let again = read.to_bytes().expect("what was read can be written");
        assert_eq!(again, bytes[..again.len()], "unchanged it goes back as it came");
        let _ = (
            read.name(),
            read.role(),
            read.bitmap_offset(),
            read.ppl(),
            read.relative(-8),
            read.features.unknown(),
        );
        let mut changed = read.clone();
        changed.events ^= 1;
        changed.set_bitmap_offset(Some(-16));
        let changed_bytes = changed.to_bytes().expect("no more roles than before");
        assert_eq!(v1::Superblock::parse(&changed_bytes), Ok(changed));
    }
    if let Ok(read) = v0::Superblock::parse(&bytes) {
        assert_eq!(read.to_bytes(), bytes[..v0::LEN], "unchanged it goes back as it came");
        let _ = (
            read.level(),
            read.reshape(),
            read.this(),
            (0..=v0::DISKS).map(|n| read.disk(n)).collect::<Vec<_>>(),
        );
        let mut changed = read.clone();
        changed.set_events(!read.events());
        changed.set_array(read.array());
        assert_eq!((changed.events(), changed.array()), (!read.events(), read.array()));
        assert_eq!(
            v0::Superblock::parse(&changed.to_bytes())
                .expect("it has a checksum")
                .events(),
            !read.events()
        );
    }
}

/// Puts right checksums where they are.
fn mend(bytes: &mut [u8]) {
    let sum = |bytes: &[u8], at: usize, big: bool| {
        let mut sum = 0u64;
        for (n, word) in bytes.chunks(4).enumerate() {
            let mut full = [0; 4];
            full[..word.len()].copy_from_slice(word);
            let word = if big {
                u32::from_be_bytes(full)
            } else {
                u32::from_le_bytes(full)
            };
            sum += if n * 4 == at { 0 } else { u64::from(word) }
        }
        (sum as u32).wrapping_add((sum >> 32) as u32)
    };
    if bytes.len() >= 256 && bytes[4..8] == [1, 0, 0, 0] {
        let roles = u32::from_le_bytes([bytes[220], bytes[221], bytes[222], bytes[223]]) as usize;
        if let Some(covered) = bytes.get(..256 + 2 * roles.min(4096)) {
            let sum = sum(covered, 216, false);
            bytes[216..220].copy_from_slice(&sum.to_le_bytes())
        }
    } else if bytes.len() >= v0::LEN {
        let big = bytes[0] == 0xa9;
        let sum = sum(&bytes[..v0::LEN], 152, big);
        bytes[152..156].copy_from_slice(&if big { sum.to_be_bytes() } else { sum.to_le_bytes() })
    }
}

/// First byte: which of the logs the rest is (3 with bit 6 is a redo log), and its bit 7 has the checksum mended.
pub fn logs(data: &[u8]) {
    let Some((&flags, bytes)) = data.split_first() else {
        return;
    };
    let bytes = &bytes[..bytes.len().min(1 << 16)];
    match flags & 3 {
        0 => {
            let Ok(read) = bitmap::Header::parse(bytes) else { return };
            assert_eq!(read.to_bytes(), bytes[..bitmap::HEADER]);
            let bits = read.bits();
            assert!(read.len() >= bitmap::HEADER as u64);
            for bit in bitmap::dirty(&bytes[bitmap::HEADER..], bits) {
                let (at, shift) = bitmap::Header::place(bit);
                assert!(bit < bits && bytes[at as usize] >> shift & 1 == 1);
            }
        }
        1 => {
            let shift = flags >> 2 & 15;
            let Ok(read) = bad_blocks::parse(bytes, shift) else {
                return;
            };
            let in_range = |range: &std::ops::Range<u64>| range.start < range.end;
            assert!(read.len() <= bad_blocks::ENTRIES_MAX && read.iter().all(in_range));
            if shift == 0 {
                let mut log = bad_blocks::Log::parse(bytes).expect("it was read before");
                assert_eq!(log.to_bytes()[..8 * read.len()], bytes[..8 * read.len()]);
                let mut lost = log.lost();
                assert!(read.iter().all(|range| lost.contains(range)));
                // The half of what is first, and something new.
                if let Some(first) = read.first() {
                    lost.remove(&(first.start..first.end.div_ceil(2).max(first.start + 1)))
                }
                lost.add(7..9);
                if log.change(&lost).is_ok() {
                    assert_eq!(log.lost(), lost);
                    assert_eq!(bad_blocks::Log::parse(&log.to_bytes()), Ok(log))
                }
            }
        }
        2 => {
            let mut bytes = bytes.to_vec();
            if flags & 0x80 != 0 && bytes.len() >= ppl::LEN {
                bytes[532..536].fill(0);
                let crc = crc32c(&[], &bytes[..ppl::LEN]);
                bytes[532..536].copy_from_slice(&crc.to_le_bytes())
            }
            let Ok(read) = ppl::Header::parse(&bytes) else { return };
            assert!(read.entries.len() <= ppl::ENTRIES_MAX);
            assert_eq!(
                read.to_bytes().expect("what was read can be written")[..],
                bytes[..ppl::LEN]
            );
        }
        _ if flags & 0x40 != 0 => {
            let mut bytes = bytes.to_vec();
            let checksum = if bytes.starts_with(b"ashlrRA1") { 40 } else { 52 };
            if flags & 0x80 != 0 && bytes.len() >= redo::LEN {
                bytes[checksum..checksum + 4].fill(0);
                let crc = crc32c(&[], &bytes[..redo::LEN]);
                bytes[checksum..checksum + 4].copy_from_slice(&crc.to_le_bytes())
            }
            if let Some(read) = redo::Anchor::parse(&bytes) {
                assert_eq!(redo::Anchor::parse(&read.to_bytes()), Some(read))
            }
            if let Some(read) = redo::Entry::parse(&bytes) {
                assert!(read.places.len() <= redo::STRIPS_MAX);
                let again = read.to_bytes().expect("what was read can be written");
                assert_eq!(redo::Entry::parse(&again), Some(read))
            }
        }
        _ => {
            // Of an array whose identity is nil.
            let mut bytes = bytes.to_vec();
            if flags & 0x80 != 0 && bytes.len() >= journal::LEN {
                bytes[4..8].fill(0);
                let crc = !crc32c(&[0; 16], &bytes[..journal::LEN]);
                bytes[4..8].copy_from_slice(&crc.to_le_bytes())
            }
            let Ok(read) = journal::MetaBlock::parse(&bytes, Default::default()) else {
                return;
            };
            assert!((journal::HEADER..=journal::LEN).contains(&(read.size as usize)));
        }
    }
}

/// Bit by bit, so that it owes nothing to the one under test.
fn crc32c(first: &[u8], then: &[u8]) -> u32 {
    !first.iter().chain(then).fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

/// Numbers as they stand in a superblock: level, layout, chunk, members, sizes, and places to look at. Nothing panics, and what there is lies
/// where it says.
pub fn shape(data: &[u8]) {
    let mut words = data.chunks(8).map(|bytes| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    });
    let mut next = || words.next().unwrap_or(0);
    let (level, layout, chunk, members) = (
        Level::from_number(next() as i8 as i32),
        next() as u32,
        next() as u32,
        next() as u16,
    );
    let (size, sector, place) = (
        next(),
        next(),
        Place {
            member: next() as u16,
            sector: next(),
        },
    );
    let sizes: Vec<u64> = (0..members % 64).map(|_| next()).collect();
    if let Ok(shape) =
        parity::Layout::from_number(level, layout).and_then(|layout| Parity::new(layout, members, chunk, size))
    {
        if let Some(at) = sector.checked_rem(shape.sectors()) {
            let (role, back) = shape.find(shape.place(at)).expect("it is there");
            assert!(matches!(role, parity::Role::Data(_)) && back == Some(at));
        }
        if let Some((_, Some(sector))) = shape.find(place) {
            assert_eq!(shape.place(sector), place);
        }
    }
    if let Ok(shape) = raid10::Layout::from_number(layout).and_then(|layout| Raid10::new(layout, members, chunk, size))
    {
        if let Some(at) = sector.checked_rem(shape.sectors()) {
            for (copy, place) in shape.places(at).enumerate() {
                assert_eq!(shape.find(place), Some((at, copy as u16)));
            }
        }
        if let Some((sector, copy)) = shape.find(place) {
            assert_eq!(shape.places(sector).nth(copy.into()), Some(place));
        }
    }
    if let Ok(shape) = Zones::new(&sizes, chunk, Counting::from_number(layout)) {
        if let Some(at) = sector.checked_rem(shape.sectors()) {
            assert_eq!(shape.find(shape.place(at)), Some(at));
        }
        if let Some(sector) = shape.find(place) {
            assert_eq!(shape.place(sector), place);
        }
    }
    if let Ok(shape) = Linear::new(&sizes, chunk) {
        if let Some(at) = sector.checked_rem(shape.sectors()) {
            assert_eq!(shape.find(shape.place(at)), Some(at));
        }
        if let Some(sector) = shape.find(place) {
            assert_eq!(shape.place(sector), place);
        }
    }
}
