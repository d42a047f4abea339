//! Physical volumes: made, given up, resized, changed.
use super::{
    super::whole::{Pv, Whole, write_label},
    flag,
    size::{self, Amount, Sign},
    tags, vacate,
};
use crate::plan::{
    Code, Disks, Draft, Facts, Guess, Refusal, Request, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{
    Area, SECTOR,
    label::{self, Label},
    mda::Header,
    text::Data,
    vg::has,
};

/// Where the first metadata area starts: LVM2 leaves a page to the label.
const AREA_START: u64 = 4096;
/// Where extents start, and what they are aligned to, unless told otherwise.
const ALIGNMENT: u64 = 1 << 20;

/// `pv-create`.
pub struct PvCreate;
/// `pv-remove`.
pub struct PvRemove;
/// `pv-resize`.
pub struct PvResize;
/// `pv-change`.
pub struct PvChange;

/// Options of [`PvCreate`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Create {
    /// Wipe what is on the disk.
    pub force: bool,
    /// Metadata areas: 0, 1 or 2.
    pub metadata_copies: Option<u64>,
    /// At least so much for each.
    pub metadata_size: Option<Value>,
    /// Extents start at a multiple of it.
    pub data_alignment: Option<Value>,
}

impl Verb for PvCreate {
    fn name(&self) -> &'static str {
        "pv-create"
    }
    fn about(&self) -> &'static str {
        "Make a blank disk an LVM2 physical volume."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new(
                "force",
                Type::Flag,
                "Wipe what is on the disk. Without it a disk that is not blank is refused.",
            ),
            Opt::new(
                "metadata_copies",
                Type::Number,
                "Metadata areas: 0, 1 (as without it) or 2, the second at the end.",
            ),
            Opt::new(
                "metadata_size",
                Type::Size,
                "Room for each of them; 1 MiB less a page without it. 10,000 volumes need 16 MiB.",
            ),
            Opt::new(
                "data_alignment",
                Type::Size,
                "Extents start at a multiple of it; 1 MiB without it.",
            ),
        ];
        OPTIONS
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let Some(facts) = disks.facts(object) else {
            return Vec::new();
        };
        let block = u64::from(facts.block_size).max(SECTOR);
        vec![
            Guess::range("metadata_copies", 0, 2, 1).or(1),
            Guess::range("metadata_size", 4096, facts.bytes(), 4096).or(ALIGNMENT - AREA_START),
            Guess::range("data_alignment", block, facts.bytes(), block).or(ALIGNMENT),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let pv = create(draft, &request.object, &request.options()?).await?;
            draft.say(format!(
                "{} becomes an LVM2 physical volume ({}).",
                pv.disk.name, pv.label.id
            ));
            Ok(())
        })
    }
}

fn bytes(value: &Option<Value>, usual: u64) -> Result<u64, Refusal> {
    match value.as_ref().map(size::size).transpose()? {
        None => Ok(usual),
        Some((Sign::To, Amount::Bytes(bytes))) if bytes > 0 => Ok(bytes),
        _ => Err(Refusal::new(
            Code::BadOption,
            "a size with a sign in front, or of nothing",
        )),
    }
}

/// Drafts a physical volume on a disk.
pub async fn create(draft: &mut Draft<'_>, disk: &str, options: &Create) -> Result<Pv, Refusal> {
    let facts = draft.facts(disk)?;
    let disk = facts.name.as_str();
    super::not_on_a_volume(&facts)?;
    vacate(draft, disk, options.force).await?;
    let copies = options.metadata_copies.unwrap_or(1);
    if copies > 2 {
        return Err(Refusal::new(
            Code::BadOption,
            format!("{copies} metadata areas; there are at most 2"),
        ));
    }
    let alignment = bytes(&options.data_alignment, ALIGNMENT)?;
    let block = u64::from(facts.block_size);
    if !alignment.is_multiple_of(block.max(SECTOR)) {
        let why = format!("{alignment} bytes are no multiple of the disk's blocks of {block} bytes");
        return Err(Refusal::new(Code::BadOption, why));
    }
    let wanted = bytes(&options.metadata_size, ALIGNMENT - AREA_START)?;
    let page = block.max(4096);
    let length = wanted
        .checked_next_multiple_of(page)
        .filter(|length| *length >= 8 * SECTOR);
    let length = length.ok_or_else(|| Refusal::new(Code::BadOption, format!("a metadata area of {wanted} bytes")))?;
    let first = AREA_START.next_multiple_of(page);
    let start = match copies {
        0 => Some(first),
        _ => first.checked_add(length),
    };
    // The area fills the room up to where extents start, as LVM2's does.
    let start = start.and_then(|end| end.checked_next_multiple_of(alignment));
    let size = facts.bytes();
    let room = || {
        Refusal::new(
            Code::NoSpace,
            format!("{disk:?} has {size} bytes, too few for a physical volume"),
        )
    };
    let start = start.filter(|start| *start < size).ok_or_else(room)?;
    let mut areas = Vec::new();
    if copies > 0 {
        areas.push(Area {
            offset: first,
            size: start - first,
        });
    }
    if copies > 1 {
        let at = size.checked_sub(length).map(|at| at / alignment * alignment);
        let at = at.filter(|at| *at > start).ok_or_else(room)?;
        areas.push(Area {
            offset: at,
            size: (size - at) / page * page,
        });
    }
    let data = Area {
        offset: start,
        size: areas.get(1).map_or(0, |area| area.offset - start),
    };
    let label = Label::new(draft.lvm2_id(), size, vec![data], areas.clone());
    let headers: Vec<Header> = areas.iter().map(|area| Header::new(*area)).collect();
    for header in &headers {
        draft
            .put(
                disk,
                header.area.offset,
                &header.to_bytes(),
                "header of an empty metadata area",
            )
            .await?;
    }
    // A label that was in another sector would be found first.
    for sector in [0, 2, 3] {
        draft
            .put(disk, sector * SECTOR, &[0; SECTOR as usize], "nothing beside the label")
            .await?;
    }
    draft.barrier(&format!("prepare the metadata areas of {disk}"));
    write_label(draft, disk, &label, "label of a physical volume").await?;
    draft.barrier(&format!("label {disk}"));
    Ok(Pv {
        disk: facts,
        label,
        areas: headers,
        idle: 0,
    })
}

/// The group that a physical volume is a member of.
fn group_of(disks: &dyn Disks, facts: &Facts) -> Option<String> {
    let groups = disks.groups();
    let member = |group: &&crate::Group| {
        let mut seats = group.members.iter().filter_map(|seat| seat.disk.as_deref());
        group.format == "lvm2" && seats.any(|disk| disk == facts.name)
    };
    groups.iter().find(member).map(|group| group.id.clone())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Remove {
    force: bool,
}

impl Verb for PvRemove {
    fn name(&self) -> &'static str {
        "pv-remove"
    }
    fn about(&self) -> &'static str {
        "Give up a physical volume that is in no group: its label goes, the disk is blank."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::new(
            "force",
            Type::Flag,
            "Even if it is of a group whose other members are not here, and never will be.",
        )];
        OPTIONS
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Remove = request.options()?;
            let pv = Pv::read(draft, &request.object).await?;
            let disk = pv.disk.name.clone();
            if let Some(group) = draft
                .disks
                .groups()
                .iter()
                .find(|group| group_of(draft.disks, &pv.disk).as_ref() == Some(&group.id))
            {
                let why = format!("{disk:?} is a member of the volume group {:?}", group.name);
                return Err(Refusal::new(Code::InUse, why).but("`vg-reduce` takes it out first"));
            }
            if let Some(user) = &pv.disk.user {
                return Err(Refusal::new(Code::InUse, format!("{disk:?} is in use by {user}")));
            }
            let texts = pv.areas.iter().any(|area| area.committed.offset != 0);
            if (texts || pv.label.extension.flags & label::USED != 0) && !options.force {
                let why = format!("{disk:?} is a physical volume of a group that is not here");
                return Err(Refusal::new(Code::Foreign, why).but("`force` gives it up for lost"));
            }
            let zeroes = [0; SECTOR as usize];
            draft.put(&disk, pv.label.sector * SECTOR, &zeroes, "no label").await?;
            draft.barrier("take the label away");
            for header in &pv.areas {
                draft
                    .put(&disk, header.area.offset, &zeroes, "no metadata area")
                    .await?;
            }
            draft.barrier("take the metadata areas away");
            draft.say(format!("{disk} is no physical volume any more ({}).", pv.label.id));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Resize {
    size: Option<Value>,
}

impl Verb for PvResize {
    fn name(&self) -> &'static str {
        "pv-resize"
    }
    fn about(&self) -> &'static str {
        "Let a physical volume have as much as its disk has now, or a given size."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::new("size", Type::Size, "How much of the disk; all without it.")];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        // All of it is what it has already, as a rule.
        let bytes = disks.facts(object).map(|facts| facts.bytes()).unwrap_or_default();
        let smaller = bytes.saturating_sub(ALIGNMENT).max(8 * ALIGNMENT);
        Map::from_iter([("size".to_owned(), smaller.into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let Some(facts) = disks.facts(object) else {
            return Vec::new();
        };
        vec![Guess::range("size", SECTOR, facts.bytes(), SECTOR).or(facts.bytes())]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Resize = request.options()?;
            let facts = draft.facts(&request.object)?;
            let wanted = bytes(&options.size, facts.bytes())?;
            if wanted > facts.bytes() {
                let why = format!("{:?} has {} bytes, not {wanted}", facts.name, facts.bytes());
                return Err(Refusal::new(Code::NoSpace, why));
            }
            let size = wanted / SECTOR * SECTOR;
            let pv = Pv::read(draft, &facts.name).await?;
            let end = |pv: &Pv| {
                let behind = pv
                    .label
                    .metadata
                    .iter()
                    .any(|area| area.offset / SECTOR >= pv.data_start());
                behind.then(|| pv.data_end())
            };
            if let Some(end) = end(&pv) {
                let why = format!("{:?} has a metadata area at its end, behind sector {end}", facts.name);
                return Err(Refusal::new(Code::Unsupported, why).but("such a physical volume keeps its size"));
            }
            let mut label = pv.label.clone();
            label.device_size = size;
            let old = pv.label.device_size;
            if size == old {
                let why = format!("the physical volume on {:?} has {size} bytes already", facts.name);
                return Err(Refusal::new(Code::Nothing, why));
            }
            match group_of(draft.disks, &facts) {
                None => {
                    write_label(draft, &facts.name, &label, "label with the new size").await?;
                    draft.barrier("write the label");
                }
                Some(group) => {
                    let mut whole = Whole::read(draft, &group).await?;
                    let word = whole.word(pv.label.id).unwrap_or_default().to_owned();
                    let extent = whole.vg.extent_size;
                    let had = whole
                        .vg
                        .physical
                        .iter()
                        .find(|one| one.name == word)
                        .map_or((0, 0), |one| (one.pe_start, one.pe_count));
                    let count = (size / SECTOR).saturating_sub(had.0) / extent;
                    let used = whole
                        .vg
                        .logical
                        .iter()
                        .flat_map(|lv| &lv.segments)
                        .filter_map(|segment| match &segment.shape {
                            spec::lvm2::vg::Shape::Striped { stripes, .. } => {
                                let each = segment.count / stripes.len().max(1) as u64;
                                stripes
                                    .iter()
                                    .filter(|stripe| stripe.on == word)
                                    .map(|stripe| stripe.extent + each)
                                    .max()
                            }
                            spec::lvm2::vg::Shape::Other { .. } => None,
                        });
                    let used = used.max().unwrap_or_default();
                    if count < used || count == 0 {
                        let why = format!(
                            "{:?} would have {count} extents, and volumes use the first {used}",
                            facts.name
                        );
                        return Err(Refusal::new(Code::InUse, why).but("move or remove those volumes first"));
                    }
                    let section = whole.physical(&word)?;
                    section.set("dev_size", Data::Integer((size / SECTOR) as i64));
                    section.set("pe_count", Data::Integer(count as i64));
                    // The label's size is a hint; it follows so that an older text still fits when the power fails in between.
                    if let Some(one) = whole.pvs.iter_mut().find(|one| one.disk.name == facts.name) {
                        one.label = label.clone();
                    }
                    whole.commit(draft, &format!("pv-resize {}", facts.name)).await?;
                    let mut marked = label;
                    if marked.extension.version >= 2 {
                        marked.extension.flags |= label::USED;
                    }
                    write_label(draft, &facts.name, &marked, "label with the new size").await?;
                    draft.barrier("write the label");
                    draft.say(format!("{} has {count} extents instead of {}.", facts.name, had.1));
                }
            }
            draft.say(format!(
                "The physical volume on {} has {size} bytes instead of {old}.",
                facts.name
            ));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Change {
    allocatable: Option<bool>,
    add_tags: Vec<String>,
    del_tags: Vec<String>,
}

impl Verb for PvChange {
    fn name(&self) -> &'static str {
        "pv-change"
    }
    fn about(&self) -> &'static str {
        "Say whether new volumes may use a physical volume, and give it tags."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new("allocatable", Type::Flag, "Whether new extents may be taken from it."),
            Opt::new("add_tags", Type::List, "Tags to give it."),
            Opt::new("del_tags", Type::List, "Tags to take from it."),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let _ = (disks, object);
        Map::from_iter([("add_tags".to_owned(), Value::from(vec!["tag0"]))])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Change = request.options()?;
            let pv = Pv::read(draft, &request.object).await?;
            let group = group_of(draft.disks, &pv.disk).ok_or_else(|| {
                Refusal::new(Code::Unsupported, format!("{:?} is in no volume group", pv.disk.name))
                    .but("a group keeps these; `vg-extend` takes it in")
            })?;
            let mut whole = Whole::read(draft, &group).await?;
            let word = whole.word(pv.label.id).unwrap_or_default().to_owned();
            let was = whole
                .vg
                .physical
                .iter()
                .find(|one| one.name == word)
                .map(|one| (has(&one.status, "ALLOCATABLE"), one.tags.clone()));
            let section = whole.physical(&word)?;
            flag(section, "status", "ALLOCATABLE", options.allocatable);
            tags(section, &options.add_tags, &options.del_tags)?;
            whole.refresh()?;
            let now = whole
                .vg
                .physical
                .iter()
                .find(|one| one.name == word)
                .map(|one| (has(&one.status, "ALLOCATABLE"), one.tags.clone()));
            if was == now {
                return Err(Refusal::new(Code::Nothing, "nothing would change"));
            }
            whole.commit(draft, &format!("pv-change {}", pv.disk.name)).await?;
            draft.say(format!("The physical volume on {} is changed.", pv.disk.name));
            Ok(())
        })
    }
}
