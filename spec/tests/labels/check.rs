//! What must hold for any bytes handed over as a partitioned disk. Used by the fuzz targets `gpt`, `mbr`, `lvm2` and `tables` and by the replay of their corpora.
use spec::{
    gpt::{self, Header, Table},
    magic,
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
    for at in [1, blocks.wrapping_sub(1)] {
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
    signatures(&disk);
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
    let table = reader.finish();
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
