//! Fields of LVM2's reports (`lvmreport(7)`): what each says of a row, from what the running target knows.
use super::units::Units;
use serde::Deserialize;
use std::cmp::Ordering;

/// The part of `ashlar_get_groups` that reports need.
#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    pub(super) format: String,
    pub(super) id: String,
    pub(super) state: String,
    pub(super) seqno: u64,
    /// Bytes in an extent.
    pub extent_bytes: u64,
    pub(super) status: Vec<String>,
    pub(super) allocation: Option<String>,
    pub(super) system_id: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) members: Vec<Seat>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
}

/// A member.
#[derive(Clone, Debug, Deserialize)]
pub struct Seat {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) disk: Option<String>,
    pub(super) extents: u64,
    pub(super) used: u64,
    pub(super) start: u64,
    pub(super) allocatable: bool,
    pub(super) tags: Vec<String>,
}

/// A volume.
#[derive(Clone, Debug, Deserialize)]
pub struct Volume {
    /// The disk it is: `group/volume`.
    pub disk: String,
    /// Its name in the group.
    pub name: String,
    pub(super) id: String,
    pub(super) tags: Vec<String>,
    /// Its length.
    pub bytes: u64,
    pub(super) read_only: bool,
    #[serde(default)]
    pub(super) skipped: bool,
    pub(super) allocation: Option<String>,
    pub(super) segments: Vec<Stretch>,
    #[serde(default)]
    pub(super) hidden: bool,
    pub(super) inactive: Option<String>,
}

/// A segment.
#[derive(Clone, Debug, Deserialize)]
pub struct Stretch {
    pub(super) start: u64,
    pub(super) count: u64,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) chunk: u64,
    #[serde(default)]
    pub(super) on: Vec<(String, u64)>,
}

/// The part of `ashlar_get_disks` that reports need.
#[derive(Clone, Debug, Deserialize)]
pub struct Disk {
    pub(super) name: String,
    pub(super) format: Option<String>,
    pub(super) node: Option<Node>,
}

/// The part of a node that reports need.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub(super) opens: u32,
    pub(super) geometry: Geometry,
}

/// How large it is.
#[derive(Clone, Debug, Deserialize)]
pub struct Geometry {
    pub(super) blocks: u64,
    pub(super) block_size: u64,
}

/// What a field of a row is, before it is printed.
#[derive(Clone, Debug)]
pub enum Cell {
    Text(String),
    Size(u64),
    Number(u64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Cell {
    /// As it is printed.
    pub fn print(&self, units: Units) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Size(bytes) => units.print(*bytes),
            Self::Number(number) => number.to_string(),
        }
    }

    /// Which comes first.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Size(a), Self::Size(b)) | (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }
}

/// A field: its name, the heading, and what it is of a row. Several names mean the same in LVM2, with and without their prefix.
pub type Field<R> = (&'static str, &'static str, fn(&R) -> Cell);

/// A row of `pvs`.
pub struct PvRow<'a> {
    pub(super) group: Option<&'a Group>,
    pub(super) seat: Option<&'a Seat>,
    pub(super) disk: Option<&'a Disk>,
}

/// A row of `lvs`.
pub struct LvRow<'a> {
    pub(super) group: &'a Group,
    pub(super) volume: &'a Volume,
    /// If the report goes by segment.
    pub(super) segment: Option<&'a Stretch>,
    pub(super) opens: u32,
}

fn bytes(disk: Option<&Disk>) -> u64 {
    let node = disk.and_then(|disk| disk.node.as_ref());
    node.map_or(0, |node| node.geometry.blocks.saturating_mul(node.geometry.block_size))
}

impl PvRow<'_> {
    fn extent(&self) -> u64 {
        self.group.map_or(0, |group| group.extent_bytes)
    }
    fn size(&self) -> u64 {
        self.seat.map_or(bytes(self.disk), |seat| seat.extents * self.extent())
    }
    fn free(&self) -> u64 {
        self.seat.map_or(bytes(self.disk), |seat| {
            seat.extents.saturating_sub(seat.used) * self.extent()
        })
    }
}

/// What there is to say of a row.
pub fn physical<'a>() -> Vec<Field<PvRow<'a>>> {
    vec![
        ("pv_name", "PV", |r| match (r.disk, r.seat) {
            (Some(disk), _) => disk.name.clone().into(),
            _ => "[unknown]".into(),
        }),
        ("vg_name", "VG", |r| r.group.map_or("", |group| &group.name).into()),
        ("pv_fmt", "Fmt", |_| "lvm2".into()),
        ("pv_attr", "Attr", |r| {
            let a = match r.seat {
                Some(seat) if seat.allocatable => 'a',
                Some(_) => 'u',
                None => '-',
            };
            let x = if r.group.is_some_and(|group| has(&group.status, "EXPORTED")) {
                'x'
            } else {
                '-'
            };
            let m = if r.seat.is_some() && r.disk.is_none() { 'm' } else { '-' };
            format!("{a}{x}{m}").into()
        }),
        ("pv_size", "PSize", |r| Cell::Size(r.size())),
        ("pv_free", "PFree", |r| Cell::Size(r.free())),
        ("pv_used", "Used", |r| Cell::Size(r.size() - r.free())),
        ("pv_uuid", "PV UUID", |r| r.seat.map_or("", |seat| &seat.id).into()),
        ("dev_size", "DevSize", |r| Cell::Size(bytes(r.disk))),
        ("pe_start", "1st PE", |r| {
            Cell::Size(r.seat.map_or(0, |seat| seat.start))
        }),
        ("pv_pe_count", "PE", |r| {
            Cell::Number(r.seat.map_or(0, |seat| seat.extents))
        }),
        ("pv_pe_alloc_count", "Alloc", |r| {
            Cell::Number(r.seat.map_or(0, |seat| seat.used))
        }),
        ("pv_tags", "PV Tags", |r| {
            r.seat.map_or(String::new(), |seat| sorted(&seat.tags)).into()
        }),
        ("vg_uuid", "VG UUID", |r| r.group.map_or("", |group| &group.id).into()),
    ]
}
/// What `pvs` prints unless told otherwise.
pub const PV_USUAL: &str = "pv_name,vg_name,pv_fmt,pv_attr,pv_size,pv_free";

fn extents(group: &Group) -> (u64, u64) {
    let sum = |of: fn(&Seat) -> u64| group.members.iter().map(of).sum::<u64>();
    (
        sum(|seat| seat.extents),
        sum(|seat| seat.extents.saturating_sub(seat.used)),
    )
}

/// What there is to say of a row.
pub fn volume_groups<'a>() -> Vec<Field<&'a Group>> {
    vec![
        ("vg_name", "VG", |g| g.name.clone().into()),
        ("pv_count", "#PV", |g| Cell::Number(g.members.len() as u64)),
        ("lv_count", "#LV", |g| {
            Cell::Number(g.volumes.iter().filter(|volume| !volume.hidden).count() as u64)
        }),
        ("snap_count", "#SN", |g| {
            Cell::Number(g.volumes.iter().filter(|volume| is(volume, "snapshot")).count() as u64)
        }),
        ("vg_attr", "Attr", |g| {
            let flag = |is: bool, letter: char| if is { letter } else { '-' };
            let text: String = [
                if has(&g.status, "WRITE") { 'w' } else { 'r' },
                flag(has(&g.status, "RESIZEABLE"), 'z'),
                flag(has(&g.status, "EXPORTED"), 'x'),
                flag(g.state == "partial", 'p'),
                allocation(g.allocation.as_deref().unwrap_or("normal")),
                flag(has(&g.status, "CLUSTERED"), 'c'),
            ]
            .into_iter()
            .collect();
            text.into()
        }),
        ("vg_size", "VSize", |g| Cell::Size(extents(g).0 * g.extent_bytes)),
        ("vg_free", "VFree", |g| Cell::Size(extents(g).1 * g.extent_bytes)),
        ("vg_uuid", "VG UUID", |g| g.id.clone().into()),
        ("vg_fmt", "Fmt", |g| g.format.clone().into()),
        ("vg_extent_size", "Ext", |g| Cell::Size(g.extent_bytes)),
        ("vg_extent_count", "#Ext", |g| Cell::Number(extents(g).0)),
        ("vg_free_count", "Free", |g| Cell::Number(extents(g).1)),
        ("vg_seqno", "Seq", |g| Cell::Number(g.seqno)),
        ("vg_tags", "VG Tags", |g| sorted(&g.tags).into()),
        ("vg_systemid", "System ID", |g| {
            g.system_id.clone().unwrap_or_default().into()
        }),
        ("vg_missing_pv_count", "#PV Missing", |g| {
            Cell::Number(g.members.iter().filter(|seat| seat.disk.is_none()).count() as u64)
        }),
    ]
}
/// What `vgs` prints unless told otherwise.
pub const VG_USUAL: &str = "vg_name,pv_count,lv_count,snap_count,vg_attr,vg_size,vg_free";

impl LvRow<'_> {
    fn kind(&self) -> &str {
        self.segment
            .or(self.volume.segments.first())
            .map_or("", |segment| &segment.kind)
    }

    /// The segments that the row is about.
    fn stretches(&self) -> &[Stretch] {
        match self.segment {
            Some(segment) => std::slice::from_ref(segment),
            None => &self.volume.segments,
        }
    }

    fn places(&self, print: impl Fn(&str, u64, u64) -> String) -> Vec<String> {
        let name = |word: &str| {
            let seat = self.group.members.iter().find(|seat| seat.name == word);
            // A stripe may lie on another volume.
            match seat {
                Some(seat) => seat.disk.clone().unwrap_or_else(|| "[unknown]".into()),
                None => word.to_owned(),
            }
        };
        let one = |segment: &Stretch| {
            let each = segment.count / segment.on.len().max(1) as u64;
            let on = segment.on.iter().map(|(word, first)| print(&name(word), *first, each));
            on.collect::<Vec<_>>()
        };
        self.stretches().iter().flat_map(one).collect()
    }
}

fn is(volume: &Volume, kind: &str) -> bool {
    volume.segments.iter().any(|segment| segment.kind.starts_with(kind))
}

/// The ten letters of `lv_attr` (`lvs(8)`, NOTES).
fn lv_attr(row: &LvRow<'_>) -> String {
    let volume = row.volume;
    let (kind, target) = [
        ("raid", 'r', 'r'),
        ("thin-pool", 't', 't'),
        ("thin", 'V', 't'),
        ("mirror", 'm', 'm'),
        ("snapshot", 's', 's'),
        ("cache-pool", 'C', 'C'),
        ("cache", 'C', 'C'),
        ("vdo", 'v', 'v'),
    ]
    .into_iter()
    .find(|(kind, ..)| is(volume, kind))
    .map_or(('-', '-'), |(_, kind, target)| (kind, target));
    let lacks = volume.inactive.as_ref().is_some_and(|why| why.starts_with("needs "));
    [
        kind,
        if volume.read_only { 'r' } else { 'w' },
        volume.allocation.as_deref().map_or('i', allocation),
        '-',
        if volume.inactive.is_none() { 'a' } else { '-' },
        if row.opens > 0 { 'o' } else { '-' },
        target,
        '-',
        if lacks { 'p' } else { '-' },
        if volume.skipped { 'k' } else { '-' },
    ]
    .into_iter()
    .collect()
}

fn allocation(word: &str) -> char {
    match word {
        "contiguous" => 'c',
        "cling" => 'l',
        "anywhere" => 'a',
        "inherit" => 'i',
        _ => 'n',
    }
}

fn empty(_: &LvRow<'_>) -> Cell {
    "".into()
}

/// What there is to say of a row.
pub fn logical<'a>() -> Vec<Field<LvRow<'a>>> {
    vec![
        ("lv_name", "LV", |r| match r.volume.hidden {
            true => format!("[{}]", r.volume.name).into(),
            false => r.volume.name.clone().into(),
        }),
        ("vg_name", "VG", |r| r.group.name.clone().into()),
        ("lv_attr", "Attr", |r| lv_attr(r).into()),
        ("lv_size", "LSize", |r| Cell::Size(r.volume.bytes)),
        ("pool_lv", "Pool", empty),
        ("origin", "Origin", empty),
        ("data_percent", "Data%", empty),
        ("metadata_percent", "Meta%", empty),
        ("move_pv", "Move", empty),
        ("mirror_log", "Log", empty),
        ("copy_percent", "Cpy%Sync", empty),
        ("convert_lv", "Convert", empty),
        ("lv_uuid", "LV UUID", |r| r.volume.id.clone().into()),
        ("lv_tags", "LV Tags", |r| sorted(&r.volume.tags).into()),
        ("lv_full_name", "LV", |r| r.volume.disk.clone().into()),
        ("lv_path", "Path", |r| format!("/dev/{}", r.volume.disk).into()),
        ("lv_layout", "Layout", |r| r.kind().into()),
        ("lv_role", "Role", |r| {
            if r.volume.hidden { "private" } else { "public" }.into()
        }),
        ("lv_active", "Active", |r| {
            if r.volume.inactive.is_none() { "active" } else { "" }.into()
        }),
        ("lv_permissions", "LPerms", |r| {
            if r.volume.read_only { "read-only" } else { "writeable" }.into()
        }),
        ("lv_allocation_policy", "AllocPol", |r| {
            r.volume.allocation.as_deref().unwrap_or("inherit").into()
        }),
        ("seg_count", "#Seg", |r| Cell::Number(r.volume.segments.len() as u64)),
        ("segtype", "Type", |r| r.kind().into()),
        ("stripes", "#Str", |r| {
            Cell::Number(r.stretches().first().map_or(0, |s| s.on.len() as u64))
        }),
        ("stripe_size", "Stripe", |r| {
            Cell::Size(r.stretches().first().map_or(0, |s| s.chunk))
        }),
        ("seg_start", "Start", |r| {
            Cell::Size(r.stretches().first().map_or(0, |s| s.start * r.group.extent_bytes))
        }),
        ("seg_start_pe", "Start", |r| {
            Cell::Number(r.stretches().first().map_or(0, |s| s.start))
        }),
        ("seg_size", "SSize", |r| {
            Cell::Size(r.stretches().first().map_or(0, |s| s.count * r.group.extent_bytes))
        }),
        ("seg_size_pe", "SSize", |r| {
            Cell::Number(r.stretches().first().map_or(0, |s| s.count))
        }),
        ("devices", "Devices", |r| {
            r.places(|disk, first, _| format!("{disk}({first})")).join(",").into()
        }),
        ("seg_pe_ranges", "PE Ranges", |r| {
            r.places(|disk, first, each| format!("{disk}:{first}-{}", first + each.saturating_sub(1)))
                .join(" ")
                .into()
        }),
        ("vg_extent_size", "Ext", |r| Cell::Size(r.group.extent_bytes)),
        ("vg_uuid", "VG UUID", |r| r.group.id.clone().into()),
    ]
}
/// What `lvs` prints unless told otherwise.
pub const LV_USUAL: &str = "lv_name,vg_name,lv_attr,lv_size,pool_lv,origin,data_percent,metadata_percent,move_pv,mirror_log,copy_percent,convert_lv";
/// What `lvs --segments` prints unless told otherwise.
pub const SEG_USUAL: &str = "lv_name,vg_name,lv_attr,stripes,segtype,seg_size";
/// Fields that are of a segment: with one of them the report goes by segment.
pub const OF_SEGMENT: [&str; 10] = [
    "segtype",
    "stripes",
    "stripe_size",
    "seg_start",
    "seg_start_pe",
    "seg_size",
    "seg_size_pe",
    "devices",
    "seg_pe_ranges",
    "stripesize",
];

fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|have| have == word)
}

fn sorted(words: &[String]) -> String {
    let mut words = words.to_vec();
    words.sort();
    words.join(",")
}
