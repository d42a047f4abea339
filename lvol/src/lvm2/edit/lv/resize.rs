//! Logical volumes made larger and smaller.
use super::{
    super::{
        super::{space::Space, whole::Whole},
        allowed,
        size::{Amount, Sign},
    },
    amount, append, chunk, count, down, length, members, places, plain, policy, room, split, up,
};
use crate::plan::{
    Code, Disks, Draft, Guess, Refusal, Request, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{
    SECTOR,
    text::{Data, Section},
    vg::{LogicalVolume, Shape},
};

/// `lv-extend`.
pub struct LvExtend;
/// `lv-reduce`.
pub struct LvReduce;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extend {
    size: Option<Value>,
    extents: Option<Value>,
    disks: Vec<String>,
    allocation: Option<String>,
    stripes: Option<u64>,
    stripe_size: Option<Value>,
}

impl Verb for LvExtend {
    fn name(&self) -> &'static str {
        "lv-extend"
    }
    fn about(&self) -> &'static str {
        "Make a volume larger, while hosts use it."
    }
    fn kind(&self) -> Kind {
        Kind::Volume
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new(
                "size",
                Type::Size,
                "How large it shall be, or with + in front by how much larger. Either this or `extents`.",
            ),
            Opt::new(
                "extents",
                Type::Extents,
                "The same in extents or as a share: +10, +100%FREE, 50%VG.",
            ),
            Opt::new("disks", Type::Disks, "Take the extents from these members only."),
            Opt::new(
                "allocation",
                Type::Choice(&["normal", "contiguous", "cling", "anywhere"]),
                "How extents are chosen.",
            ),
            Opt::new(
                "stripes",
                Type::Number,
                "Stripes of what is added; as many as its last segment has without it.",
            ),
            Opt::new(
                "stripe_size",
                Type::Size,
                "The size of a chunk of what is added; that of its last segment without it.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let _ = (disks, object);
        Map::from_iter([("extents".to_owned(), "+1".into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let vg = object.split('/').next().unwrap_or_default();
        let (Some((extent, free)), Some(now)) = (room(disks, vg), length(disks, object)) else {
            return Vec::new();
        };
        vec![
            Guess::range(
                "size",
                extent.saturating_mul(now + 1),
                extent.saturating_mul(now + free),
                extent,
            )
            .not_with(&["extents"]),
            Guess::range("extents", now + 1, now + free, 1).not_with(&["size"]),
            Guess::range("stripes", 1, 128, 1),
            Guess::among("disks", members(disks, vg)),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Extend = request.options()?;
            let (vg, name) = split(&request.object)?;
            let mut whole = Whole::read(draft, vg).await?;
            let lv = plain(&whole, name)?.clone();
            let (now, last) = (lv.extents(), lv.segments.last().cloned());
            let shape = last.as_ref().map(|segment| &segment.shape);
            let (had, old_chunk) = match shape {
                Some(Shape::Striped { stripes, chunk }) => (stripes.len() as u64, *chunk),
                _ => (1, 0),
            };
            let stripes = options.stripes.unwrap_or(had);
            if stripes == 0 || stripes > 128 {
                return Err(Refusal::new(
                    Code::BadOption,
                    format!("{stripes} stripes; there are 1 to 128"),
                ));
            }
            let chunk = match (&options.stripe_size, stripes) {
                (_, 1) => 0,
                (None, n) if n == had => old_chunk,
                (wanted, _) => chunk(&whole, wanted)?,
            };
            let policy = policy(&whole, options.allocation.as_deref())?;
            let on = allowed(&whole, &options.disks)?;
            let mut space = Space::of(&whole.vg, &on)?;
            let wanted = amount(&options.size, &options.extents)?;
            let (sign, extents) = count(&whole, &space, &on, now, wanted, up)?;
            let more = match sign {
                Sign::Plus => extents,
                Sign::To if extents > now => extents - now,
                Sign::To => {
                    let why = format!("{vg}/{name} has {now} extents already");
                    return Err(Refusal::new(Code::Nothing, why).but("`lv-reduce` makes it smaller"));
                }
                Sign::Minus => {
                    return Err(Refusal::new(Code::BadOption, "less is not more").but("`lv-reduce` makes it smaller"));
                }
            };
            let more = match wanted.1 {
                Amount::Percent(..) => more / stripes * stripes,
                _ => more.checked_next_multiple_of(stripes).unwrap_or(u64::MAX),
            };
            if more == 0 || more > u64::from(u32::MAX) - now {
                return Err(Refusal::new(
                    Code::NoSpace,
                    format!("{more} more extents are no size for a volume"),
                ));
            }
            // With another shape a new segment begins.
            let behind = last.as_ref().filter(|_| stripes == had && chunk == old_chunk);
            let rows = space.choose(more, stripes as usize, policy, behind)?;
            append(whole.volume(name)?, Some(&lv), &rows, chunk);
            whole.commit(draft, &format!("lv-extend {vg}/{name}")).await?;
            let total = (now + more) * whole.vg.extent_size * SECTOR;
            draft.say(format!(
                "The volume {vg}/{name} has {} extents instead of {now} ({total} bytes); the new ones are on {}.",
                now + more,
                places(&whole, &rows)
            ));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reduce {
    size: Option<Value>,
    extents: Option<Value>,
}

impl Verb for LvReduce {
    fn name(&self) -> &'static str {
        "lv-reduce"
    }
    fn about(&self) -> &'static str {
        "Make a volume smaller. What is behind the new end is lost; shrink the filesystem first."
    }
    fn kind(&self) -> Kind {
        Kind::Volume
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new(
                "size",
                Type::Size,
                "How large it shall be, or with - in front by how much smaller. Either this or `extents`.",
            ),
            Opt::new(
                "extents",
                Type::Extents,
                "The same in extents or as a share: -10, 50%LV.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let _ = (disks, object);
        Map::from_iter([("extents".to_owned(), "-1".into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let vg = object.split('/').next().unwrap_or_default();
        let (Some((extent, _)), Some(now)) = (room(disks, vg), length(disks, object)) else {
            return Vec::new();
        };
        let less = now.saturating_sub(1);
        vec![
            Guess::range("size", extent, extent.saturating_mul(less), extent).not_with(&["extents"]),
            Guess::range("extents", 1, less, 1).not_with(&["size"]),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Reduce = request.options()?;
            let (vg, name) = split(&request.object)?;
            let mut whole = Whole::read(draft, vg).await?;
            let lv = plain(&whole, name)?.clone();
            let now = lv.extents();
            let space = Space::of(&whole.vg, &[])?;
            let wanted = amount(&options.size, &options.extents)?;
            // By less than an extent is by nothing; to a part of one is to all of it.
            let round = if wanted.0 == Sign::Minus { down } else { up };
            let (sign, extents) = count(&whole, &space, &[], now, wanted, round)?;
            let left = match sign {
                Sign::Minus => now.saturating_sub(extents),
                Sign::To => extents,
                Sign::Plus => {
                    return Err(Refusal::new(Code::BadOption, "more is not less").but("`lv-extend` makes it larger"));
                }
            };
            if left >= now {
                let why = format!("{vg}/{name} has {now} extents");
                return Err(Refusal::new(Code::Nothing, why).but("`lv-extend` makes it larger"));
            }
            if left == 0 {
                let why = format!("nothing would be left of {vg}/{name}");
                return Err(Refusal::new(Code::BadOption, why).but("`lv-remove` removes it"));
            }
            draft.release(&request.object)?;
            let left = cut(whole.volume(name)?, &lv, left);
            if left == now {
                let why = format!("{vg}/{name} cannot end within a row of its stripes");
                return Err(Refusal::new(Code::Nothing, why));
            }
            whole.commit(draft, &format!("lv-reduce {vg}/{name}")).await?;
            let bytes = left * whole.vg.extent_size * SECTOR;
            draft.say(format!(
                "The volume {vg}/{name} has {left} extents instead of {now} ({bytes} bytes)."
            ));
            draft.warn(format!("What {vg}/{name} has behind its first {bytes} bytes is lost."));
            Ok(())
        })
    }
}

/// Leaves a volume its first extents: as many as asked for, or a few more so that each stripe ends alike. How many.
fn cut(volume: &mut Section, lv: &LogicalVolume, left: u64) -> u64 {
    let mut kept = 0;
    let mut count = 0;
    for (segment, number) in lv.segments.iter().zip(1..) {
        let name = format!("segment{number}");
        if kept >= left {
            volume.remove(&name);
            continue;
        }
        let stripes = match &segment.shape {
            Shape::Striped { stripes, .. } => stripes.len() as u64,
            Shape::Other { .. } => 1,
        };
        let wanted = (left - kept)
            .min(segment.count)
            .next_multiple_of(stripes.max(1))
            .min(segment.count);
        if wanted < segment.count
            && let Some(section) = volume.get_mut(&name).and_then(|item| item.section_mut())
        {
            section.set("extent_count", Data::Integer(wanted as i64));
        }
        kept += wanted;
        count = number;
    }
    volume.set("segment_count", Data::Integer(count));
    kept
}
