//! Mode pages (SPC-4 7.5, SBC-3 6.4): the parameter list of MODE SENSE, and what MODE SELECT may change in it.
//!
//! ```text
//! header     4 bytes (6) or 8 bytes (10): length, medium type, device-specific, block descriptor length
//! descriptor none, 8 bytes, or 16 bytes (LLBAA): number of blocks, block length
//! pages      01 read-write error recovery, 08 caching, 0a control, 1c informational exceptions
//! ```
use super::{Sense, be16, cdb::PageControl};

/// Read-write error recovery.
pub const RECOVERY: u8 = 0x01;
/// Caching.
pub const CACHING: u8 = 0x08;
/// Control.
pub const CONTROL: u8 = 0x0a;
/// Informational exceptions control.
pub const EXCEPTIONS: u8 = 0x1c;
/// All of them.
pub const ALL: u8 = 0x3f;

const PAGES: [u8; 4] = [RECOVERY, CACHING, CONTROL, EXCEPTIONS];

/// What a host may change, for all hosts at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// D_SENSE: sense data in descriptor format.
    pub descriptor_sense: bool,
    /// SWP: refuse writes.
    pub write_protect: bool,
}

/// Everything a parameter list is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeState {
    /// What hosts have set.
    pub settings: Settings,
    /// The volume itself cannot be written.
    pub read_only: bool,
    /// WCE: a write may be answered before it is on the medium.
    pub write_cache: bool,
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
}

fn page(code: u8, control: PageControl, state: &ModeState) -> ([u8; 20], usize) {
    let mut out = [0; 20];
    let len = match code {
        RECOVERY => 12,
        CACHING => 20,
        _ => 12,
    };
    out[0] = code;
    out[1] = len as u8 - 2;
    match (code, control) {
        (CONTROL, PageControl::Changeable) => {
            out[2] = 0x04;
            out[4] = 0x08;
        }
        (_, PageControl::Changeable) => (),
        // AWRE, ARRE: what is below mends itself.
        (RECOVERY, _) => out[2] = 0xc0,
        (CACHING, _) => out[2] = u8::from(state.write_cache) << 2,
        (CONTROL, _) => {
            let now = match control {
                PageControl::Default => Settings::default(),
                _ => state.settings,
            };
            out[2] = u8::from(now.descriptor_sense) << 2;
            out[3] = 0x10; // unrestricted reordering
            out[4] = u8::from(now.write_protect) << 3;
            out[5] = 0x40; // TAS: hosts hear of commands aborted by others
            out[8..10].copy_from_slice(&[0xff, 0xff]); // no bound on being busy
        }
        // DEXCPT: no exceptions are reported.
        (EXCEPTIONS, _) => out[2] = 0x08,
        _ => (),
    }
    (out, len)
}

/// The parameter list MODE SENSE answers with, uncut.
pub fn sense(
    state: &ModeState,
    code: u8,
    subpage: u8,
    control: PageControl,
    descriptors: bool,
    long_lba: bool,
    ten: bool,
) -> Result<Vec<u8>, Sense> {
    if control == PageControl::Saved {
        return Err(Sense::SAVING);
    }
    // Subpages: none of ours has any, so "all subpages" is the page itself.
    if code != ALL && !PAGES.contains(&code) {
        return Err(Sense::cdb_field(2, 5));
    }
    if subpage != 0 && subpage != 0xff {
        return Err(Sense::cdb_field(3, 7));
    }
    // Medium type 0; device-specific: WP, and DPOFUA since we honour both bits.
    let protect = state.read_only || state.settings.write_protect;
    let specific = u8::from(protect) << 7 | 0x10;
    let descriptor: &[u8] = &match (descriptors, long_lba) {
        (false, _) => Vec::new(),
        (true, false) => {
            let blocks = u32::try_from(state.blocks).unwrap_or(u32::MAX);
            [blocks.to_be_bytes(), (state.block_size & 0xff_ffff).to_be_bytes()].concat()
        }
        (true, true) => {
            let mut long = state.blocks.to_be_bytes().to_vec();
            long.extend_from_slice(&[0; 4]);
            long.extend_from_slice(&state.block_size.to_be_bytes());
            long
        }
    };
    let mut out = Vec::with_capacity(96);
    match ten {
        // No list of ours comes near 255 bytes; lengths are patched below.
        false => out.extend_from_slice(&[0, 0, specific, descriptor.len() as u8]),
        true => out.extend_from_slice(&[0, 0, 0, specific, long_lba.into(), 0, 0, descriptor.len() as u8]),
    }
    out.extend_from_slice(descriptor);
    for each in PAGES.into_iter().filter(|p| code == ALL || code == *p) {
        let (bytes, len) = page(each, control, state);
        out.extend_from_slice(&bytes[..len]);
    }
    match ten {
        false => out[0] = (out.len() - 1) as u8,
        true => {
            let len = (out.len() - 2) as u16;
            out[..2].copy_from_slice(&len.to_be_bytes());
        }
    }
    Ok(out)
}

/// Checks the frame of a MODE SELECT parameter list; yields `(offset in the list, page)` for each page in it.
pub fn parse_select(list: &[u8], ten: bool) -> Result<impl Iterator<Item = (usize, &[u8])>, Sense> {
    let header = if ten { 8 } else { 4 };
    // Nothing sent, nothing changed: no error (SPC-4 6.9).
    let start = match list.len() {
        0 => 0,
        n if n < header => return Err(Sense::PARAMETER_LENGTH),
        n => {
            let descriptor = if ten {
                be16(list, 6).into()
            } else {
                usize::from(list[3])
            };
            if header + descriptor > n {
                return Err(Sense::PARAMETER_LENGTH);
            }
            header + descriptor
        }
    };
    let mut at = start;
    while at < list.len() {
        match list.get(at + 1) {
            // A subpage has a longer header and none of ours is one.
            _ if list[at] & 0x40 != 0 => return Err(Sense::parameter_field(at as u16)),
            Some(len) if at + 2 + usize::from(*len) <= list.len() => at += 2 + usize::from(*len),
            _ => return Err(Sense::PARAMETER_LENGTH),
        }
    }
    let mut rest = start;
    Ok(std::iter::from_fn(move || {
        let len = 2 + usize::from(*list.get(rest + 1)?);
        let page = (rest, &list[rest..rest + len]);
        rest += len;
        Some(page)
    }))
}

/// Applies a MODE SELECT parameter list: only what [`PageControl::Changeable`] shows may differ from what is.
pub fn select(state: &ModeState, list: &[u8], ten: bool) -> Result<Settings, Sense> {
    let mut settings = state.settings;
    for (at, bytes) in parse_select(list, ten)? {
        let code = bytes[0] & 0x3f;
        if !PAGES.contains(&code) {
            return Err(Sense::parameter_field(at as u16));
        }
        let (now, len) = page(code, PageControl::Current, state);
        let (may, _) = page(code, PageControl::Changeable, state);
        if bytes.len() != len {
            return Err(Sense::PARAMETER_LENGTH);
        }
        if let Some(i) = (2..len).find(|&i| (bytes[i] ^ now[i]) & !may[i] != 0) {
            return Err(Sense::parameter_field((at + i) as u16));
        }
        if code == CONTROL {
            settings = Settings {
                descriptor_sense: bytes[2] & 0x04 != 0,
                write_protect: bytes[4] & 0x08 != 0,
            };
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: ModeState = ModeState {
        settings: Settings {
            descriptor_sense: false,
            write_protect: false,
        },
        read_only: false,
        write_cache: true,
        blocks: 0x1000,
        block_size: 512,
    };

    #[test]
    fn the_caching_page_says_wce() {
        let golden = [
            31, 0, 0x10, 8, 0, 0, 0x10, 0, 0, 0, 2, 0, 0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0,
        ];
        let list = sense(&STATE, CACHING, 0, PageControl::Current, true, false, false).unwrap();
        assert_eq!(list, golden);
        let off = ModeState {
            write_cache: false,
            read_only: true,
            ..STATE
        };
        let list = sense(&off, CACHING, 0, PageControl::Current, false, false, true).unwrap();
        assert_eq!(list[..11], [0, 26, 0, 0x90, 0, 0, 0, 0, 0x08, 0x12, 0x00]);
    }

    #[test]
    fn all_pages_come_in_order_and_saved_ones_do_not_exist() {
        let list = sense(&STATE, ALL, 0xff, PageControl::Current, false, false, false).unwrap();
        assert_eq!(usize::from(list[0]), list.len() - 1);
        let codes: Vec<u8> = parse_select(&list, false).unwrap().map(|(_, page)| page[0]).collect();
        assert_eq!(codes, PAGES);
        let saved = sense(&STATE, ALL, 0, PageControl::Saved, false, false, false);
        assert_eq!(saved, Err(Sense::SAVING));
        assert!(sense(&STATE, 0x05, 0, PageControl::Current, false, false, false).is_err());
    }

    #[test]
    fn select_changes_swp_and_refuses_what_is_not_changeable() {
        let mut list = sense(&STATE, CONTROL, 0, PageControl::Current, false, false, false).unwrap();
        list[0] = 0;
        list[4 + 4] |= 0x08;
        assert!(select(&STATE, &list, false).unwrap().write_protect);
        list[4 + 3] = 0;
        assert_eq!(select(&STATE, &list, false), Err(Sense::parameter_field(7)));
        assert_eq!(select(&STATE, &[], false), Ok(STATE.settings));
        assert_eq!(select(&STATE, &[0, 0, 0, 8], false), Err(Sense::PARAMETER_LENGTH));
        assert_eq!(
            select(&STATE, &[0, 0, 0, 0, 0x0a, 40], false),
            Err(Sense::PARAMETER_LENGTH)
        );
    }
}
