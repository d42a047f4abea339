//! New logical volumes: linear or striped, where the policy wants them.
use super::{
    super::{
        super::{
            space::{Run, Space},
            whole::Whole,
        },
        allowed, fresh,
        size::{Amount, Sign},
        tags, volume_name,
    },
    CHUNK, amount, append, chunk, chunks, count, members, places, policy, room, up,
};
use crate::plan::{
    Code, Disks, Draft, Guess, Refusal, Request, Undo, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{
    SECTOR,
    text::{Data, Section},
};

/// Bytes of a new volume that are zeroed: whatever was there before is not to be taken for what is there now.
const ZEROED: u64 = 128 << 10;

/// `lv-create`.
pub struct LvCreate;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Create {
    name: Option<String>,
    size: Option<Value>,
    extents: Option<Value>,
    stripes: Option<u64>,
    stripe_size: Option<Value>,
    disks: Vec<String>,
    allocation: Option<String>,
    tags: Vec<String>,
    read_only: bool,
    keep_contents: bool,
}

impl Verb for LvCreate {
    fn name(&self) -> &'static str {
        "lv-create"
    }
    fn about(&self) -> &'static str {
        "Make a volume of a group's free extents, linear or striped."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new("name", Type::Text, "What it is called; lvol0, lvol1, … without it."),
            Opt::new(
                "size",
                Type::Size,
                "How large it is; rounded up to whole extents. Either this or `extents`.",
            ),
            Opt::new(
                "extents",
                Type::Extents,
                "How large it is, in extents or as a share: 100, 50%VG, 100%FREE, 100%PVS.",
            ),
            Opt::new(
                "stripes",
                Type::Number,
                "On how many disks its chunks lie in turn; 1 without it.",
            ),
            Opt::new("stripe_size", Type::Size, "The size of a chunk; 64 KiB without it."),
            Opt::new(
                "disks",
                Type::Disks,
                "Only on these members: a disk, disk:first-last for some of its extents, @tag for all of that tag.",
            ),
            Opt::new(
                "allocation",
                Type::Choice(&["normal", "contiguous", "cling", "anywhere"]),
                "How extents are chosen.",
            ),
            Opt::new("tags", Type::List, "Tags to give it."),
            Opt::new("read_only", Type::Flag, "Nobody writes to it."),
            Opt::new(
                "keep_contents",
                Type::Flag,
                "Do not zero its first 128 KiB: whatever lay there before is in it.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, _: &dyn Disks, _: &str) -> Map<String, Value> {
        Map::from_iter([("extents".to_owned(), 1.into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let Some((extent, free)) = room(disks, object) else {
            return Vec::new();
        };
        vec![
            Guess::range("size", extent, extent.saturating_mul(free), extent).not_with(&["extents"]),
            Guess::range("extents", 1, free, 1).not_with(&["size"]),
            Guess::range("stripes", 1, 128, 1).or(1),
            Guess::among("stripe_size", chunks(extent))
                .or(CHUNK.min(extent))
                .with("stripes", 2),
            Guess::among("disks", members(disks, object)),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Create = request.options()?;
            let mut whole = Whole::read(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            let taken = |name: &str| whole.vg.logical.iter().any(|lv| lv.name == name);
            let name = match &options.name {
                None => fresh("lvol", taken),
                Some(name) if taken(name) => {
                    return Err(Refusal::new(
                        Code::BadName,
                        format!("{vg:?} has a volume {name:?} already"),
                    ));
                }
                Some(name) => volume_name(name)?.to_owned(),
            };
            let stripes = options.stripes.unwrap_or(1);
            if stripes == 0 || stripes > 128 {
                return Err(Refusal::new(
                    Code::BadOption,
                    format!("{stripes} stripes; there are 1 to 128"),
                ));
            }
            let policy = policy(&whole, options.allocation.as_deref())?;
            let on = allowed(&whole, &options.disks)?;
            let mut space = Space::of(&whole.vg, &on)?;
            let wanted = amount(&options.size, &options.extents)?;
            let (sign, extents) = count(&whole, &space, &on, 0, wanted, up)?;
            if sign != Sign::To {
                return Err(Refusal::new(Code::BadOption, "a new volume has no size to add to"));
            }
            // Every stripe has as many; a share rounds down, so that 100%FREE is possible.
            let extents = match wanted.1 {
                Amount::Percent(..) => extents / stripes * stripes,
                _ => extents.checked_next_multiple_of(stripes).unwrap_or(u64::MAX),
            };
            let chunk = if stripes > 1 {
                chunk(&whole, &options.stripe_size)?
            } else {
                0
            };
            if extents == 0 || extents > u64::from(u32::MAX) {
                return Err(Refusal::new(
                    Code::NoSpace,
                    format!("{extents} extents are no size for a volume"),
                ));
            }
            let rows = space.choose(extents, stripes as usize, policy, None)?;
            if !options.keep_contents {
                zero(draft, &whole, &rows, chunk).await?;
            }
            let stamp = draft.stamp().clone();
            let mut volume = Section::default();
            let word = |word: &str| Data::Text(word.to_owned());
            volume.set("id", word(&draft.lvm2_id().to_string()));
            let status: &[&str] = if options.read_only {
                &["READ", "VISIBLE"]
            } else {
                &["READ", "WRITE", "VISIBLE"]
            };
            volume.set("status", Data::List(status.iter().map(|one| word(one)).collect()));
            volume.set("flags", Data::List(Vec::new()));
            tags(&mut volume, &options.tags, &[])?;
            volume.set("creation_time", Data::Integer(stamp.time as i64));
            volume.set("creation_host", word(&stamp.host));
            if let Some(policy) = options.allocation.as_deref().filter(|policy| *policy != "normal") {
                volume.set("allocation_policy", word(policy));
            }
            volume.set("segment_count", Data::Integer(0));
            append(&mut volume, None, &rows, chunk);
            whole.volumes()?.add(&name, volume);
            whole.commit(draft, &format!("lv-create {vg}/{name}")).await?;
            let bytes = extents * whole.vg.extent_size * SECTOR;
            let how = if stripes > 1 {
                format!(" in {stripes} stripes")
            } else {
                String::new()
            };
            draft.say(format!(
                "The volume {vg}/{name} is made: {extents} extents, {bytes} bytes{how}, on {}.",
                places(&whole, &rows)
            ));
            draft.undo(Undo::Request(Request::new("lv-remove", &format!("{vg}/{name}"))));
            Ok(())
        })
    }
}

/// Zeroes the start of a new volume, wherever its first chunks lie. Nobody's extents until the commit.
async fn zero(draft: &mut Draft<'_>, whole: &Whole, rows: &[Vec<Run>], chunk: u64) -> Result<(), Refusal> {
    let Some(row) = rows.first() else { return Ok(()) };
    let extent = whole.vg.extent_size * SECTOR;
    let length = row.first().map_or(0, |run| run.count) * extent;
    // The first bytes of each stripe are all of them, or more.
    let each = match row.len() as u64 {
        1 => ZEROED,
        n => ZEROED.div_ceil(chunk * SECTOR * n) * chunk * SECTOR,
    };
    let zeroes = vec![0; each.min(length) as usize];
    for run in row {
        let Some(pv) = whole.vg.physical.iter().find(|pv| pv.name == run.on) else {
            continue;
        };
        let Some(disk) = whole.pvs.iter().find(|one| one.label.id == pv.id) else {
            continue;
        };
        let at = pv.pe_start * SECTOR + run.start * extent;
        draft
            .put(&disk.disk.name, at, &zeroes, "zero the start of the new volume")
            .await?;
    }
    Ok(())
}
