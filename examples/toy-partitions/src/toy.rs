//! The plug-in: who it is, how it recognises its disks, and a verb that makes one.
use crate::table::{self, Entry, FIRST, SECTOR};
use ashlar::{
    lvol::{
        Partition, Plugin, Refusal, Request, Verdict,
        format::{Format, Taste, Tasting},
        part::{Found, edit::disk, older},
        plan::{
            Code, Disks, Draft, Verb,
            verb::{Kind, Opt, Planning, Type},
        },
        plugin::{Api, Class, Id, What},
        probe::Probe,
    },
    spec::{Extent, extent::sift},
};
use serde::Deserialize;

const NAME: &str = "toy";

/// What the engine is given.
pub const PLUGIN: Plugin = Plugin {
    name: NAME,
    // A vendor from 0x8000 needs nobody's leave.
    id: Id::new(0x8001, Class::PartitionManager, 1),
    class: Class::PartitionManager,
    // Written down when this file was written, so that an engine with another idea of the interface says so.
    api: Api::new(1, 0),
    about: "toy partition tables: a few lines of text in the first sector",
    what: What::Format(&Toy),
    verbs: &[&ToyCreate],
};

struct Toy;

impl Format for Toy {
    fn name(&self) -> &'static str {
        NAME
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        // Both ends of the disk have been read already; a format whose table lies elsewhere awaits `disk.read(extent)`.
        Box::pin(async move { Ok(taste(disk)) })
    }
}

fn taste(disk: &Probe<'_>) -> Taste {
    let entries = match table::parse(disk.windows().head) {
        None => return Taste::No,
        Some(Err(why)) => return Taste::Traces(format!("a toy table that cannot be used: {why}")),
        Some(Ok(entries)) => entries,
    };
    // What overlaps or lies outside is not served, and the disk's notes say why.
    let sectors = disk.bytes() / SECTOR as u64;
    let area = Extent::new(FIRST, sectors.saturating_sub(FIRST));
    let (good, bad) = sift((1..).zip(entries), area, |entry: &Entry| Some(entry.extent));
    let found = good.into_iter().map(|(number, entry)| Found {
        number,
        extent: entry.extent,
        kind: "toy".to_owned(),
        name: entry.name,
    });
    older(disk, "toy table", SECTOR as u32, found.collect(), bad, |plain| {
        Partition::Other { scheme: NAME.to_owned(), plain }
    })
}

/// `toy-create`: `toy-partitions do toy-create DISK partitions=boot:8192,data:65536`.
struct ToyCreate;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    partitions: Vec<String>,
}

impl Verb for ToyCreate {
    fn name(&self) -> &'static str {
        "toy-create"
    }
    fn about(&self) -> &'static str {
        "Make a toy partition table on a blank disk."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[Opt::required(
            "partitions",
            Type::List,
            "one after the other, each as NAME:SECTORS",
        )];
        ALL
    }
    fn example(&self, _: &dyn Disks, _: &str) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::from_iter([("partitions".to_owned(), vec!["a:1"].into())])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(create(draft, request))
    }
}

/// Says what is to be written. It reads and never writes: the engine does that, after the plan was looked at.
async fn create(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Create = request.options()?;
    // Refuses a disk that somebody uses as a whole, or that cannot be written to.
    let facts = disk(draft, &request.object)?;
    let name = &facts.name;
    if facts.verdict != Verdict::New {
        return Err(Refusal::new(Code::NotBlank, format!("{name:?} {}", facts.reason)).but("wipe it first"));
    }
    let mut entries = Vec::new();
    let mut next = FIRST;
    for text in &options.partitions {
        let wrong = || Refusal::new(Code::BadOption, format!("partitions: {text:?} is not NAME:SECTORS"));
        let (word, sectors) = text.split_once(':').ok_or_else(wrong)?;
        let count: u64 = sectors.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
        if word.is_empty() || word.contains(char::is_whitespace) {
            return Err(wrong());
        }
        entries.push(Entry {
            extent: Extent::new(next, count),
            name: word.to_owned(),
        });
        next = next.saturating_add(count);
    }
    if next > facts.bytes() / SECTOR as u64 {
        return Err(Refusal::new(Code::NoSpace, format!("{name:?} is too small for them")));
    }
    let bytes = table::write(&entries)
        .ok_or_else(|| Refusal::new(Code::Unsupported, "a toy table has room for about 20 partitions"))?;
    draft.put(name, 0, &bytes, "the toy table").await?;
    draft.barrier("write the table");
    draft.say(format!("{name} gets a toy table with {} partitions.", entries.len()));
    Ok(())
}
