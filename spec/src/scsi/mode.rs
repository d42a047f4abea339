//! Mode pages (SPC-4 7.5, SBC-3 6.4): the parameter list of MODE SENSE, and what MODE SELECT may change in it.
//!
//! ```text
//! header     4 bytes (6) or 8 bytes (10): length, medium type, device-specific, block descriptor length
//! descriptor none, 8 bytes, or 16 bytes (LLBAA): number of blocks, block length
//! pages      01     read-write error recovery      nothing is retried or reallocated here: all zero
//!            08     caching                        WCE
//!            0a     control                        D_SENSE, SWP; TAS and GLTSD are set
//!            0a/01  control extension              all zero
//!            1a     power condition                no timer runs: all zero
//!            1c     informational exceptions       DEXCPT: none are reported
//!            1c/02  logical block provisioning     on thin units; no thresholds
//! ```
use super::{Sense, be16, be32, cdb::PageControl};

/// Read-write error recovery.
pub const RECOVERY: u8 = 0x01;
/// Caching.
pub const CACHING: u8 = 0x08;
/// Control.
pub const CONTROL: u8 = 0x0a;
/// Power condition.
pub const POWER: u8 = 0x1a;
/// Informational exceptions control.
pub const EXCEPTIONS: u8 = 0x1c;
/// All of them.
pub const ALL: u8 = 0x3f;
/// With subpages, as a subpage code.
pub const ALL_SUBPAGES: u8 = 0xff;

/// A mode page: code, subpage code, length with its header.
struct Page {
    code: u8,
    subpage: u8,
    len: usize,
}

const fn page(code: u8, subpage: u8, len: usize) -> Page {
    Page { code, subpage, len }
}

/// In the order they are told in.
const PAGES: [Page; 7] = [
    page(RECOVERY, 0, 12),
    page(CACHING, 0, 20),
    page(CONTROL, 0, 12),
    page(CONTROL, 1, 32),
    page(POWER, 0, 40),
    page(EXCEPTIONS, 0, 12),
    page(EXCEPTIONS, 2, 16),
];
const LONGEST: usize = 40;

/// What a host may change, for all hosts at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// D_SENSE: sense data in descriptor format.
    pub descriptor_sense: bool,
    /// SWP: refuse writes.
    pub write_protect: bool,
    /// WCE: a write may be answered before it is on the medium.
    pub write_cache: bool,
}

impl Settings {
    /// One bit for each, so that they can be kept in an atomic.
    pub const fn to_bits(self) -> u8 {
        self.descriptor_sense as u8 | (self.write_protect as u8) << 1 | (self.write_cache as u8) << 2
    }

    /// What [`to_bits`](Self::to_bits) made.
    pub const fn from_bits(bits: u8) -> Self {
        Self {
            descriptor_sense: bits & 1 != 0,
            write_protect: bits & 2 != 0,
            write_cache: bits & 4 != 0,
        }
    }
}

/// Everything a parameter list is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeState {
    /// What hosts have set.
    pub settings: Settings,
    /// What a reset sets: the default values.
    pub initial: Settings,
    /// The volume itself cannot be written.
    pub read_only: bool,
    /// There is a volatile cache, so WCE can be changed.
    pub volatile_cache: bool,
    /// The unit can unmap.
    pub thin: bool,
    /// Number of blocks; 0 without a medium.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
}

impl Page {
    fn there(&self, state: &ModeState) -> bool {
        (self.code, self.subpage) != (EXCEPTIONS, 2) || state.thin
    }

    fn bytes(&self, control: PageControl, state: &ModeState) -> [u8; LONGEST] {
        let mut out = [0; LONGEST];
        match self.subpage {
            0 => out[..2].copy_from_slice(&[self.code, self.len as u8 - 2]),
            subpage => out[..4].copy_from_slice(&[0x40 | self.code, subpage, 0, self.len as u8 - 4]),
        }
        let now = match control {
            PageControl::Changeable => Settings {
                descriptor_sense: true,
                write_protect: true,
                write_cache: state.volatile_cache,
            },
            PageControl::Default => state.initial,
            _ => state.settings,
        };
        match (self.code, self.subpage) {
            (CACHING, 0) => out[2] = u8::from(now.write_cache) << 2,
            (CONTROL, 0) => {
                out[2] = u8::from(now.descriptor_sense) << 2;
                out[4] = u8::from(now.write_protect) << 3;
                if control != PageControl::Changeable {
                    out[2] |= 0x02; // GLTSD: log parameters are not saved
                    out[3] = 0x10; // unrestricted reordering
                    out[5] = 0x40; // TAS: hosts hear of commands aborted by others
                    out[8..10].copy_from_slice(&[0xff, 0xff]); // no bound on being busy
                }
            }
            (EXCEPTIONS, 0) if control != PageControl::Changeable => out[2] = 0x08, // DEXCPT
            _ => (),
        }
        out
    }
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
    let there = || PAGES.iter().filter(|page| page.there(state));
    if code != ALL && !there().any(|page| page.code == code) {
        return Err(Sense::cdb_field(2, 5));
    }
    let wanted =
        |page: &&Page| (code == ALL || code == page.code) && (subpage == ALL_SUBPAGES || subpage == page.subpage);
    if !there().any(|page| wanted(&page)) || code == ALL && !matches!(subpage, 0 | ALL_SUBPAGES) {
        return Err(Sense::cdb_field(3, 7));
    }
    // Medium type 0; device-specific: WP, and DPOFUA since we honour both bits.
    let protect = state.read_only || state.settings.write_protect;
    let specific = u8::from(protect) << 7 | 0x10;
    let descriptor = if descriptors {
        descriptor(state, long_lba)
    } else {
        Vec::new()
    };
    let mut out = Vec::with_capacity(256);
    match ten {
        // No list of ours comes near 255 bytes; lengths are patched below.
        false => out.extend_from_slice(&[0, 0, specific, descriptor.len() as u8]),
        true => out.extend_from_slice(&[0, 0, 0, specific, long_lba.into(), 0, 0, descriptor.len() as u8]),
    }
    out.extend_from_slice(&descriptor);
    for page in there().filter(wanted) {
        out.extend_from_slice(&page.bytes(control, state)[..page.len]);
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

/// The one block descriptor, short or long (SBC-3 6.4.2).
fn descriptor(state: &ModeState, long: bool) -> Vec<u8> {
    match long {
        false => {
            let blocks = u32::try_from(state.blocks).unwrap_or(u32::MAX);
            [blocks.to_be_bytes(), (state.block_size & 0xff_ffff).to_be_bytes()].concat()
        }
        true => {
            let mut out = state.blocks.to_be_bytes().to_vec();
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&state.block_size.to_be_bytes());
            out
        }
    }
}

/// A MODE SELECT parameter list, its frame checked.
#[derive(Clone, Copy, Debug)]
pub struct Select<'a> {
    list: &'a [u8],
    /// Length of the header: where the block descriptors start.
    header: usize,
    /// Where the pages start.
    pages: usize,
    long_lba: bool,
}

/// Checks the frame of a MODE SELECT parameter list. An empty list is one that changes nothing (SPC-4 6.11).
pub fn parse_select(list: &[u8], ten: bool) -> Result<Select<'_>, Sense> {
    let header = if ten { 8 } else { 4 };
    if list.is_empty() {
        return Ok(Select {
            list,
            header: 0,
            pages: 0,
            long_lba: false,
        });
    }
    if list.len() < header {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let descriptors = if ten {
        be16(list, 6).into()
    } else {
        usize::from(list[3])
    };
    let pages = header + descriptors;
    if pages > list.len() {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let select = Select {
        list,
        header,
        pages,
        long_lba: ten && list[4] & 1 != 0,
    };
    let mut at = pages;
    while at < list.len() {
        let whole = select.page_at(at).ok_or(Sense::PARAMETER_LENGTH)?;
        at += whole.len();
    }
    Ok(select)
}

impl<'a> Select<'a> {
    fn page_at(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.list.get(at..)?;
        let len = match rest.first()? & 0x40 {
            0 => 2 + usize::from(*rest.get(1)?),
            _ => 4 + usize::from(be16(rest.get(..4)?, 2)),
        };
        rest.get(..len)
    }

    /// `(offset in the list, page)` for each page in it, header and all.
    pub fn pages(self) -> impl Iterator<Item = (usize, &'a [u8])> {
        let mut at = self.pages;
        std::iter::from_fn(move || {
            let page = self.page_at(at)?;
            let found = (at, page);
            at += page.len();
            Some(found)
        })
    }

    /// The block descriptor says what is so already, or that it need not change: another capacity or block length there is not.
    fn check_descriptor(&self, state: &ModeState) -> Result<(), Sense> {
        let field = |at: usize| Sense::parameter_field(at as u16); // a list is at most 64 KiB long
        let at = self.header;
        let (same, block_size) = match (self.pages - at, self.long_lba) {
            (0, _) => return Ok(()),
            (8, false) => {
                let blocks = be32(self.list, at);
                let now = u32::try_from(state.blocks).unwrap_or(u32::MAX);
                (
                    [0, u32::MAX, now].contains(&blocks),
                    be32(self.list, at + 4) & 0xff_ffff,
                )
            }
            (16, true) => {
                let blocks = super::be64(self.list, at);
                ([0, u64::MAX, state.blocks].contains(&blocks), be32(self.list, at + 12))
            }
            // Not one descriptor of the length its header speaks of.
            _ => return Err(field(at - if self.header == 8 { 2 } else { 1 })),
        };
        match (same, block_size == state.block_size) {
            (true, true) => Ok(()),
            (false, _) => Err(field(at)),
            (_, false) if self.long_lba => Err(field(at + 12)),
            _ => Err(field(at + 5)),
        }
    }
}

/// Applies a MODE SELECT parameter list: only what [`PageControl::Changeable`] shows may differ from what is.
pub fn select(state: &ModeState, list: &[u8], ten: bool) -> Result<Settings, Sense> {
    let mut settings = state.settings;
    let select = parse_select(list, ten)?;
    select.check_descriptor(state)?;
    for (at, bytes) in select.pages() {
        let field = |i: usize| Sense::parameter_field((at + i) as u16);
        let (code, subpage, first) = match bytes[0] & 0x40 {
            0 => (bytes[0] & 0x3f, 0, 2),
            _ => (bytes[0] & 0x3f, bytes[1], 4),
        };
        let known = PAGES.iter().find(|page| (page.code, page.subpage) == (code, subpage));
        let page = known.filter(|page| page.there(state)).ok_or(field(0))?;
        if bytes.len() != page.len {
            return Err(field(first - 1));
        }
        let now = page.bytes(PageControl::Current, state);
        let may = page.bytes(PageControl::Changeable, state);
        if let Some(i) = (first..page.len).find(|&i| (bytes[i] ^ now[i]) & !may[i] != 0) {
            return Err(field(i));
        }
        match (code, subpage) {
            (CACHING, 0) => settings.write_cache = bytes[2] & 0x04 != 0,
            (CONTROL, 0) => {
                settings.descriptor_sense = bytes[2] & 0x04 != 0;
                settings.write_protect = bytes[4] & 0x08 != 0;
            }
            _ => (),
        }
    }
    Ok(settings)
}

/// Both shapes of MODE SELECT parameter lists, parsed and applied. What is accepted comes back the same way.
#[doc(hidden)]
pub fn fuzz_mode_select(data: &[u8]) {
    let [how, list @ ..] = data else { return };
    let ten = how & 1 != 0;
    let state = ModeState {
        settings: Settings::from_bits(how >> 1 & 7),
        volatile_cache: how & 0x10 != 0,
        thin: how & 0x20 != 0,
        blocks: 0x1000,
        block_size: 512,
        ..ModeState::default()
    };
    if let Ok(parsed) = parse_select(list, ten) {
        let pages: usize = parsed.pages().map(|(_, page)| page.len()).sum();
        assert_eq!(parsed.pages + pages, list.len());
    }
    if let Ok(settings) = select(&state, list, ten) {
        assert!(state.volatile_cache || settings.write_cache == state.settings.write_cache);
        let next = ModeState { settings, ..state };
        let again = sense(&next, ALL, ALL_SUBPAGES, PageControl::Current, true, false, ten);
        assert_eq!(again.and_then(|list| select(&next, &list, ten)), Ok(settings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATE: ModeState = ModeState {
        settings: Settings {
            descriptor_sense: false,
            write_protect: false,
            write_cache: true,
        },
        initial: Settings {
            descriptor_sense: false,
            write_protect: false,
            write_cache: false,
        },
        read_only: false,
        volatile_cache: true,
        thin: true,
        blocks: 0x1000,
        block_size: 512,
    };

    fn one(code: u8, subpage: u8, control: PageControl) -> Vec<u8> {
        sense(&STATE, code, subpage, control, false, false, false)
            .unwrap()
            .split_off(4)
    }

    #[test]
    fn the_caching_page_says_wce() {
        let golden = [
            31, 0, 0x10, 8, 0, 0, 0x10, 0, 0, 0, 2, 0, 0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0,
        ];
        let list = sense(&STATE, CACHING, 0, PageControl::Current, true, false, false).unwrap();
        assert_eq!(list, golden);
        let off = ModeState {
            settings: Settings::default(),
            read_only: true,
            volatile_cache: false,
            ..STATE
        };
        let list = sense(&off, CACHING, 0, PageControl::Current, false, false, true).unwrap();
        assert_eq!(list[..11], [0, 26, 0, 0x90, 0, 0, 0, 0, 0x08, 0x12, 0x00]);
        // A volume without a volatile cache has nothing to switch.
        let may = sense(&off, CACHING, 0, PageControl::Changeable, false, false, false).unwrap();
        assert_eq!(may[4..7], [0x08, 0x12, 0x00]);
        assert_eq!(one(CACHING, 0, PageControl::Changeable)[..3], [0x08, 0x12, 0x04]);
        assert_eq!(one(CACHING, 0, PageControl::Default)[..3], [0x08, 0x12, 0x00]);
    }

    #[test]
    fn each_page_has_its_golden_bytes() {
        use PageControl::{Changeable, Current};
        assert_eq!(one(RECOVERY, 0, Current), [0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            one(CONTROL, 0, Current),
            [0x0a, 0x0a, 0x02, 0x10, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0]
        );
        assert_eq!(
            one(CONTROL, 0, Changeable),
            [0x0a, 0x0a, 0x04, 0, 0x08, 0, 0, 0, 0, 0, 0, 0]
        );
        let mut extension = vec![0x4a, 0x01, 0, 0x1c];
        extension.resize(32, 0);
        assert_eq!(one(CONTROL, 1, Current), extension);
        let mut power = vec![0x1a, 0x26];
        power.resize(40, 0);
        assert_eq!(one(POWER, 0, Current), power);
        assert_eq!(
            one(EXCEPTIONS, 0, Current),
            [0x1c, 0x0a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            one(EXCEPTIONS, 2, Current),
            [0x5c, 0x02, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(one(CONTROL, ALL_SUBPAGES, Current).len(), 12 + 32);
    }

    #[test]
    fn long_descriptors_hold_what_short_ones_cannot() {
        let big = ModeState {
            blocks: 1 << 33,
            block_size: 4096,
            ..STATE
        };
        let short = sense(&big, CACHING, 0, PageControl::Current, true, false, true).unwrap();
        assert_eq!(
            short[..16],
            [0, 34, 0, 0x10, 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]
        );
        let long = sense(&big, CACHING, 0, PageControl::Current, true, true, true).unwrap();
        assert_eq!(long[..8], [0, 42, 0, 0x10, 1, 0, 0, 16]);
        assert_eq!(long[8..24], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]);
        assert_eq!(select(&big, &long, true), Ok(big.settings));
    }

    #[test]
    fn all_pages_come_in_order_and_saved_ones_do_not_exist() {
        let codes = |subpage, state: &ModeState| -> Vec<(u8, u8)> {
            let list = sense(state, ALL, subpage, PageControl::Current, false, false, false).unwrap();
            assert_eq!(usize::from(list[0]), list.len() - 1);
            let code = |page: &[u8]| (page[0] & 0x3f, if page[0] & 0x40 == 0 { 0 } else { page[1] });
            parse_select(&list, false)
                .unwrap()
                .pages()
                .map(|(_, page)| code(page))
                .collect()
        };
        assert_eq!(
            codes(0, &STATE),
            [(0x01, 0), (0x08, 0), (0x0a, 0), (0x1a, 0), (0x1c, 0)]
        );
        let all = [
            (0x01, 0),
            (0x08, 0),
            (0x0a, 0),
            (0x0a, 1),
            (0x1a, 0),
            (0x1c, 0),
            (0x1c, 2),
        ];
        assert_eq!(codes(ALL_SUBPAGES, &STATE), all);
        assert_eq!(codes(ALL_SUBPAGES, &ModeState { thin: false, ..STATE }), all[..6]);
        let ask = |code, subpage, control| sense(&STATE, code, subpage, control, false, false, false);
        assert_eq!(ask(ALL, 0, PageControl::Saved), Err(Sense::SAVING));
        assert_eq!(ask(0x05, 0, PageControl::Current), Err(Sense::cdb_field(2, 5)));
        assert_eq!(ask(CONTROL, 2, PageControl::Current), Err(Sense::cdb_field(3, 7)));
        assert_eq!(ask(ALL, 1, PageControl::Current), Err(Sense::cdb_field(3, 7)));
    }

    #[test]
    fn select_changes_what_is_changeable_and_points_at_the_rest() {
        let mut list = sense(&STATE, CONTROL, 0, PageControl::Current, false, false, false).unwrap();
        list[0] = 0;
        list[4 + 4] |= 0x08;
        assert!(select(&STATE, &list, false).unwrap().write_protect);
        list[4 + 3] = 0;
        assert_eq!(select(&STATE, &list, false), Err(Sense::parameter_field(7)));
        let mut cache = sense(&STATE, CACHING, 0, PageControl::Current, false, false, true).unwrap();
        cache[8 + 2] = 0;
        assert!(!select(&STATE, &cache, true).unwrap().write_cache);
        let plain = ModeState {
            volatile_cache: false,
            ..STATE
        };
        assert_eq!(select(&plain, &cache, true), Err(Sense::parameter_field(10)));
        assert_eq!(select(&STATE, &[], false), Ok(STATE.settings));
    }

    #[test]
    fn select_refuses_lists_that_are_cut_or_lie() {
        assert_eq!(select(&STATE, &[0, 0, 0], false), Err(Sense::PARAMETER_LENGTH));
        assert_eq!(select(&STATE, &[0, 0, 0, 8], false), Err(Sense::PARAMETER_LENGTH));
        assert_eq!(
            select(&STATE, &[0, 0, 0, 0, 0x0a, 40], false),
            Err(Sense::PARAMETER_LENGTH)
        );
        assert_eq!(
            select(&STATE, &[0, 0, 0, 0, 0x4a, 1, 0], false),
            Err(Sense::PARAMETER_LENGTH)
        );
        assert_eq!(
            select(&STATE, &[0, 0, 0, 0, 0x05, 0], false),
            Err(Sense::parameter_field(4))
        );
        assert_eq!(
            select(&STATE, &[0, 0, 0, 0, 0x0a, 2, 0, 0], false),
            Err(Sense::parameter_field(5))
        );
        // Another size, another block length, half a descriptor.
        let with = |descriptor: &[u8]| {
            select(
                &STATE,
                &[&[0, 0, 0, descriptor.len() as u8], descriptor].concat(),
                false,
            )
        };
        assert_eq!(with(&[0, 0, 0x10, 0, 0, 0, 2, 0]), Ok(STATE.settings));
        assert_eq!(with(&[0, 0, 0, 0, 0, 0, 2, 0]), Ok(STATE.settings));
        assert_eq!(with(&[0, 0, 0x20, 0, 0, 0, 2, 0]), Err(Sense::parameter_field(4)));
        assert_eq!(with(&[0, 0, 0x10, 0, 0, 0, 0x10, 0]), Err(Sense::parameter_field(9)));
        assert_eq!(with(&[0; 16]), Err(Sense::parameter_field(3)));
    }

    proptest! {
        #[test]
        fn no_list_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            fuzz_mode_select(&bytes);
        }
    }
}
