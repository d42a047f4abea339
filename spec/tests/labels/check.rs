//! What must hold for any bytes handed over as a partitioned disk. Used by the fuzz targets `gpt`, `mbr`, `lvm2`, `link` and `tables` and by the replay of their corpora.
use spec::{
    gpt::{self, Header, Table},
    link, magic,
    mbr::{self, Reader, Record},
};

/// Longest input that is looked at.
const MAX: usize = 1 << 20;

/// First byte: bit 0 chooses blocks of 4096 bytes, bit 1 has the checksums mended so that damage reaches what is behind them. The rest is the disk.
pub fn gpt(data: &[u8]) {
    let Some((&flags, disk)) = data.split_first() else {
        return;
    };
    let mut disk = disk[..disk.len().min(MAX)].to_vec();
    let size = if flags & 1 == 0 { 512 } else { 4096 };
    disk.resize(disk.len().next_multiple_of(size), 0);
    let blocks = disk.len() / size;
    if flags & 2 != 0 {
        mend(&mut disk, size);
    }
    let mut copies = [None, None];
    for (copy, at) in copies.iter_mut().zip([1, blocks.wrapping_sub(1)]) {
        let Some(block) = disk.chunks(size).nth(at) else {
            continue;
        };
        let Ok(header) = Header::parse(block, at as u64, blocks as u64) else {
            continue;
        };
        let array = header.array();
        assert!(array.fits(blocks as u64) && array.count * size as u64 <= gpt::ARRAY_MAX + size as u64);
        let raw = &disk[array.start as usize * size..][..array.count as usize * size];
        let Ok(mut table) = Table::parse(header, raw) else {
            continue;
        };
        *copy = Some(table.clone());
        let usable = table.header.usable();
        let (good, bad) = table.partitions();
        for (i, (_, entry)) in good.iter().enumerate() {
            let extent = entry.extent().expect("an accepted entry has an extent");
            assert!(extent.inside(usable) && extent.fits(blocks as u64) && extent.count > 0);
            assert!(
                good[..i]
                    .iter()
                    .all(|(_, other)| !other.extent().unwrap_or_default().overlaps(extent))
            );
        }
        assert_eq!(good.len() + bad.len(), table.entries().count());
        // Unchanged it goes back as it came: the header's defined part and the entries.
        let (header_out, array_out) = table.to_bytes();
        assert_eq!(header_out[..92], block[..92]);
        let bytes = raw.len().min(array_out.len());
        let used = (table.header.slots() as usize
            * u32::from_le_bytes([block[84], block[85], block[86], block[87]]) as usize)
            .min(bytes);
        assert_eq!(array_out[..used], raw[..used]);
        // What is set is read back.
        if let Some((number, entry)) = good.first() {
            assert!(table.set(*number, Some(entry)));
            assert_eq!(
                table.partitions().0.first().map(|(_, e)| e.extent()),
                Some(entry.extent())
            );
        }
    }
    let [primary, backup] = &copies;
    writable(primary.as_ref(), backup.as_ref(), blocks as u64, size);
    signatures(&disk);
}

/// A label that can be made of the copies is written where no partition may be, and read back.
fn writable(primary: Option<&Table>, backup: Option<&Table>, blocks: u64, size: usize) {
    let Ok(label) = gpt::Label::new(primary, backup, blocks) else {
        return;
    };
    let mut grown = label.clone();
    let more = blocks + 77;
    let moved = grown.move_backup(more).is_ok();
    for (label, blocks) in [(&label, blocks), (&grown, if moved { more } else { blocks })] {
        let usable = label.table().header.usable();
        for copy in [label.primary(), label.backup()] {
            let places = [
                spec::Extent::new(copy.header_at, 1),
                spec::Extent::new(copy.array_at, copy.array.len().div_ceil(size) as u64),
            ];
            assert!(places.iter().all(|place| place.fits(blocks) && !place.overlaps(usable)));
            let mut block = copy.header.clone();
            block.resize(size, 0);
            let header = Header::parse(&block, copy.header_at, blocks).expect("what is written can be read");
            let again = Table::parse(header, &copy.array).expect("what is written can be read");
            assert!(again.entries().eq(label.table().entries()));
        }
    }
}

/// Whatever was read can be changed without a panic: nothing lies where another partition is, and no entry behind the map.
fn map(entries: Vec<spec::apple::Entry>, blocks: u64) {
    use spec::apple::map::{Map, Wanted};
    let Some(map) = Map::new(entries, blocks) else { return };
    assert!(
        map.steps()
            .iter()
            .flat_map(|(_, blocks)| blocks)
            .all(|(number, _)| *number <= 255)
    );
    let room = map.room();
    let wanted = Wanted {
        start: room.start.min(1 << 30) as u32,
        blocks: 1,
        name: "n".into(),
        kind: "Apple_HFS".into(),
    };
    for number in map.free().into_iter().take(2).chain([2, 3]) {
        for to in [Some(&wanted), None] {
            let mut other = map.clone();
            if other.set(number, to) {
                let count = other.entries().len() as u32;
                for (number, bytes) in other.steps().into_iter().flat_map(|(_, blocks)| blocks) {
                    if number > count {
                        // One that is not counted any more.
                        assert!(bytes.iter().all(|byte| *byte == 0));
                        continue;
                    }
                    let entry = spec::apple::Entry::parse(&bytes, number).expect("what is written can be read");
                    assert!(entry.kind != spec::apple::map::FREE || u64::from(entry.start) < room.start.max(blocks));
                }
            }
        }
    }
}

/// The whole input is the disk, in blocks of 512 bytes.
pub fn mbr(data: &[u8]) {
    let mut disk = data[..data.len().min(MAX)].to_vec();
    disk.resize(disk.len().next_multiple_of(512), 0);
    let blocks = disk.len() as u64 / 512;
    let Ok(master) = Record::parse(&disk) else { return };
    assert_eq!(master.to_bytes(), disk[..512]);
    let mut reader = Reader::new(master, blocks);
    let mut steps = 0;
    while let Some(at) = reader.next() {
        assert!(at > 0 && at < blocks);
        reader.give(&disk[at as usize * 512..][..512]);
        steps += 1;
        assert!(steps <= mbr::LOGICAL_MAX + 2);
    }
    let label = reader.label();
    let table = reader.finish();
    if let Ok(label) = label {
        for (at, record) in label.records() {
            assert_eq!(record.to_bytes(), disk[at as usize * 512..][..512]);
        }
        changes(label);
    }
    for (i, (number, p)) in table.partitions.iter().enumerate() {
        assert!(p.extent.fits(blocks) && p.extent.start > 0 && p.extent.count > 0);
        assert!((1..=256).contains(number));
        assert!(
            table.partitions[..i]
                .iter()
                .all(|(_, other)| !other.extent.overlaps(p.extent))
        );
    }
    signatures(&disk);
}

/// Whatever was read can be changed without a panic, and what is written is in the table's own blocks.
fn changes(label: mbr::Label) {
    for (number, extent, kind, active) in label.partitions() {
        let mut other = label.clone();
        let steps = match number {
            5.. => other.set_logical(number, extent.count / 2 + 1, kind, !active),
            _ => other.set_primary(number, Some((extent, kind, !active))),
        };
        assert!(steps.is_ok_and(|steps| !steps.is_empty()));
        let mut other = label.clone();
        let gone = match number {
            5.. => other.remove_logical(number),
            _ => other.set_primary(number, None),
        };
        assert!(gone.is_ok());
        assert!(other.partitions().len() < label.partitions().len());
    }
}

/// The whole input is the start of a disk of 1 MiB with one of the older tables, whichever it is; the checksums are mended too, so that damage
/// reaches what is behind them.
pub fn tables(data: &[u8]) {
    use spec::{Extent, amiga, apple, atari, bsd, sgi, sun};
    const SECTORS: u64 = 2048;
    let mut disk = data[..data.len().min(64 << 10)].to_vec();
    disk.resize(64 << 10, 0);
    let apart = |extents: Vec<Extent>, room: u64| {
        for (i, extent) in extents.iter().enumerate() {
            assert!(extent.count > 0 && extent.fits(room), "{extent}");
            assert!(extents[..i].iter().all(|other| !other.overlaps(*extent)));
        }
    };
    // Sun: exclusive-or of 16-bit words; SGI and Amiga: sum of 32-bit words; BSD: exclusive-or, little-endian.
    let mut mended = disk.clone();
    let words = |raw: &[u8]| {
        raw.chunks_exact(2)
            .fold(0, |sum, w| sum ^ u16::from_be_bytes([w[0], w[1]]))
    };
    if mended[508..510] == [0xda, 0xbe] {
        mended[510..512].fill(0);
        let sum = words(&mended[..512]);
        mended[510..512].copy_from_slice(&sum.to_be_bytes());
    }
    let total = |raw: &[u8]| {
        raw.chunks_exact(4).fold(0u32, |sum, w| {
            sum.wrapping_add(u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
        })
    };
    if mended[..4] == [0x0b, 0xe5, 0xa9, 0x41] {
        mended[504..508].fill(0);
        let sum = total(&mended[..512]).wrapping_neg();
        mended[504..508].copy_from_slice(&sum.to_be_bytes());
    }
    for at in 0..16 {
        let block = &mut mended[at * 512..][..512];
        let longs = u32::from_be_bytes([block[4], block[5], block[6], block[7]]) as usize;
        if (block.starts_with(b"RDSK") || block.starts_with(b"PART")) && (5..=128).contains(&longs) {
            block[8..12].fill(0);
            let sum = total(&block[..longs * 4]).wrapping_neg();
            block[8..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
    for at in [64, 512] {
        let count = usize::from(mended[at + 138]).min(16);
        let label = &mut mended[at..at + 148 + count * 16];
        if label.starts_with(&[0x57, 0x45, 0x56, 0x82]) {
            label[136..138].fill(0);
            let sum = words(label);
            label[136..138].copy_from_slice(&sum.to_be_bytes());
        }
    }
    for disk in [&disk, &mended] {
        if let Ok(label) = sun::Label::parse(disk) {
            assert_eq!(label.to_bytes()[..], disk[..512]);
            apart(label.partitions(SECTORS).0.iter().map(|(_, p)| p.1).collect(), SECTORS);
        }
        if let Ok(header) = sgi::Header::parse(disk) {
            assert_eq!(header.to_bytes()[..], disk[..512]);
            apart(header.partitions(SECTORS).0.iter().map(|(_, p)| p.1).collect(), SECTORS);
        }
        if let Ok(table) = atari::Table::parse(disk, SECTORS) {
            assert_eq!(table.to_bytes()[..], disk[..512]);
            let used: Vec<_> = table
                .entries
                .into_iter()
                .filter(|e| e.is_used() && !e.is_extended())
                .collect();
            let (good, _) = atari::partitions(used, SECTORS);
            let extents = good.iter().map(|(_, e)| Extent::new(e.start.into(), e.count.into()));
            apart(extents.collect(), SECTORS);
        }
        let _ = atari::Table::link(disk);
        for at in [64, 512] {
            if let Ok(label) = bsd::Label::parse(&disk[at..]) {
                let bytes = label.to_bytes();
                assert_eq!(bytes[..], disk[at..at + bytes.len()]);
                for base in [0, u64::from(label.base()), u64::MAX] {
                    let (good, _) = label.partitions(SECTORS, base);
                    apart(good.iter().map(|(_, p)| p.1).collect(), SECTORS);
                }
            }
        }
        let mut chain = Vec::new();
        for block in disk.chunks(512).take(16) {
            if let Ok(rigid) = amiga::Rigid::parse(block) {
                let bytes = rigid.to_bytes();
                assert_eq!(bytes[..], block[..bytes.len()]);
            }
            if let Ok(part) = amiga::Partition::parse(block) {
                let bytes = part.to_bytes();
                assert_eq!(bytes[..], block[..bytes.len()]);
                assert!(!part.type_name().is_empty());
                chain.push(part);
            }
        }
        let (good, _) = amiga::partitions(chain, SECTORS);
        apart(good.iter().filter_map(|(_, p)| p.extent()).collect(), SECTORS);
        if let Ok(descriptor) = apple::Descriptor::parse(disk) {
            let size = usize::from(descriptor.block_size);
            let mut entries = Vec::new();
            for number in 1..16u32 {
                let block = &disk[number as usize * size..];
                if let Ok(entry) = apple::Entry::parse(block, number) {
                    assert_eq!(entry.to_bytes()[..], block[..512]);
                    entries.push(entry);
                }
            }
            let count = entries.first().map_or(0, |first| first.count as usize);
            if entries.len() >= count && count > 0 {
                map(entries[..count].to_vec(), (1 << 20) / size as u64);
            }
            let (good, _) = apple::partitions(entries, descriptor.block_size, 1 << 20);
            let extents = good.iter().map(|(_, e)| Extent::new(e.start.into(), e.blocks.into()));
            apart(extents.collect(), (1 << 20) / size as u64);
        }
    }
}

/// The first byte chooses what the rest is: 0 a label sector, 1 a disk with a metadata area, else the text. Checksums are mended, so that
/// damage reaches what is behind them.
pub fn lvm2(data: &[u8]) {
    use spec::lvm2::{
        CRC_SEED, crc,
        label::Label,
        mda::{Header, TEXT_MAX},
        text::Section,
        vg::{Shape, VolumeGroup},
    };
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let data = &data[..data.len().min(MAX)];
    match kind {
        0 => {
            let mut sector = data[..data.len().min(512)].to_vec();
            sector.resize(512, 0);
            let at = u64::from(sector[8]) & 3;
            sector[8..16].copy_from_slice(&at.to_le_bytes());
            let sum = crc(CRC_SEED, &sector[20..]);
            sector[16..20].copy_from_slice(&sum.to_le_bytes());
            if let Ok(label) = Label::parse(&sector, at) {
                assert_eq!(label.to_bytes().as_ref().map(|b| &b[..]), Some(&sector[..]));
                assert!(
                    label
                        .data
                        .iter()
                        .chain(&label.metadata)
                        .all(|area| area.end().is_some())
                );
            }
            let _ = Label::find(data);
        }
        1 => {
            let mut disk = data.to_vec();
            disk.resize(disk.len().max(512), 0);
            disk[24..32].fill(0);
            let sum = crc(CRC_SEED, &disk[4..512]);
            disk[..4].copy_from_slice(&sum.to_le_bytes());
            let Ok(header) = Header::parse(&disk, 0) else { return };
            assert_eq!(header.to_bytes()[..], disk[..512]);
            for location in [header.committed, header.prepared] {
                if let Ok(Some(pieces)) = header.pieces(location) {
                    assert_eq!(pieces.iter().map(|piece| piece.size).sum::<u64>(), location.size);
                    assert!(location.size <= TEXT_MAX);
                    for piece in pieces {
                        assert!(piece.offset >= 512 && piece.end().is_some_and(|end| end <= header.area.size));
                    }
                }
            }
        }
        _ => {
            let Ok(tree) = Section::parse(data) else { return };
            assert_eq!(tree.to_bytes(), data);
            let Ok(group) = VolumeGroup::of(&tree) else { return };
            for lv in &group.logical {
                assert!(lv.extents() <= u64::from(u32::MAX));
                for segment in &lv.segments {
                    if let Shape::Striped { stripes, .. } = &segment.shape {
                        assert!(!stripes.is_empty() && segment.count % stripes.len() as u64 == 0);
                    }
                }
            }
            let (_, _) = (group.parts(), group.overlaps());
        }
    }
}

/// First byte: bit 0 has the checksum mended so that damage reaches what is behind it. The rest is a record of a drive link.
pub fn link(data: &[u8]) {
    let Some((&flags, record)) = data.split_first() else {
        return;
    };
    let mut record = record[..record.len().min(link::COPY as usize)].to_vec();
    if flags & 1 != 0 && record.len() >= 20 {
        let length = u32::from_le_bytes([record[16], record[17], record[18], record[19]]) as usize;
        record[12..16].fill(0);
        let crc = record.get(..length).map(crc32c).unwrap_or_default();
        record[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    let Ok(read) = link::Record::parse(&record) else { return };
    assert!(read.own().is_some() && read.blocks().checked_mul(u64::from(read.block_size)).is_some());
    assert!((1..=link::CHILDREN_MAX).contains(&read.children.len()) && link::is_name(&read.name));
    // Unchanged it goes back as it came.
    let bytes = read.to_bytes().expect("what was read can be written");
    assert_eq!(bytes, record[..bytes.len()]);
}

/// Bit by bit, so that it owes nothing to the one under test.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

fn signatures(disk: &[u8]) {
    let (head, tail) = (
        disk.len().min(magic::HEAD as usize),
        disk.len().min(magic::TAIL as usize),
    );
    let windows = magic::Windows {
        head: &disk[..head],
        tail: &disk[disk.len() - tail..],
        size: disk.len() as u64,
    };
    for found in magic::find(&windows) {
        assert!(found.at < windows.size && !found.to_string().is_empty());
    }
}

/// Renews both checksums of the primary, as far as its fields can be followed.
fn mend(disk: &mut [u8], size: usize) {
    let Some(header) = disk.get(size..2 * size) else { return };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let (len, entries, count, entry) = (word(12), word(72), word(80), word(84));
    let array = entries
        .checked_mul(size)
        .zip(count.checked_mul(entry))
        .and_then(|(from, len)| disk.get(from..)?.get(..len));
    let crc = array.map(crc32);
    if let Some(crc) = crc {
        disk[size + 88..size + 92].copy_from_slice(&crc.to_le_bytes());
    }
    disk[size + 16..size + 20].fill(0);
    if let Some(header) = disk[size..2 * size].get(..len) {
        let crc = crc32(header);
        disk[size + 16..size + 20].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Bit by bit, so that it owes nothing to the one under test.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
