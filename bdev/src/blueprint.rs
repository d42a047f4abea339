//! From a [`Table`] to what every core builds its device from: names become places, files are opened, lengths are checked.
//!
//! The explicit list of all leaves and modules (DESIGN D10) is the two matches in this file: [`Kind::geometry`] for the control plane and
//! [`Kind::device`] for the cores.
use crate::raid::Parts;
use crate::table::{self, Piece};
use crate::{
    Disk, Geometry, GraphError, Keys, Table,
    keys::Key,
    leaf::{file::File, gap::Gap, gone::Gone, memory::Memory, null::Null},
    module::{
        crypt::{self, Crypt},
        delay::{Delay, Latencies},
        error::{Error, Errors, Injection},
        linear::{self, Linear},
        raid::{self, Array, Plan},
        read_only::{self, ReadOnly},
        stats::{self, Stats},
        stripe::{self, Stripe},
    },
};
use std::{fmt, sync::Arc, time::Duration};

/// Builds a device of somebody else's on a core, from the disks below.
pub type Maker = Arc<dyn Fn(&[Disk]) -> Result<Disk, String> + Send + Sync>;

/// Place in the graph, first block, blocks.
pub(crate) type Run = (u32, u64, u64);

/// A piece of a mapped disk.
#[derive(Clone)]
pub(crate) enum Part {
    Linear(Run),
    /// The runs, and the blocks in a chunk.
    Stripe(Vec<Run>, u32),
    /// Blocks of nothing.
    Gap(u64),
}

impl Part {
    fn runs(&self) -> &[Run] {
        match self {
            Part::Linear(run) => std::slice::from_ref(run),
            Part::Stripe(runs, _) => runs,
            Part::Gap(_) => &[],
        }
    }
}

/// What a node is, in a form that may be sent to any core. Lower disks are places in the graph.
#[derive(Clone)]
pub(crate) enum Kind {
    Memory,
    Null,
    File(File),
    /// Place, first block and blocks of each segment.
    Linear(Vec<Run>),
    /// The same for pieces that may be stripes.
    Mapped {
        pieces: Vec<Part>,
        read_only: bool,
    },
    Stripe {
        on: Vec<u32>,
        chunk: u32,
    },
    Raid {
        plan: Plan,
        /// By places: the member, and where its data begin. Behind them those that replace them, if there are any.
        on: Vec<Option<(u32, u64)>>,
    },
    Delay {
        on: u32,
        latencies: Latencies,
    },
    Error {
        on: u32,
        inject: Vec<Injection>,
    },
    Stats {
        on: u32,
    },
    Crypt {
        on: u32,
        key: Arc<Key>,
    },
    Passthru {
        on: u32,
    },
    /// A device this crate does not know, and what it claims to be.
    Custom {
        on: Vec<u32>,
        make: Maker,
        geometry: Geometry,
    },
    /// What it was has vanished.
    Gone,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {:?}", self.word(), self.below())
    }
}

/// What a device keeps when it is built anew because something below it has changed.
#[derive(Clone, Default)]
pub(crate) enum Kept {
    #[default]
    Nothing,
    Memory(Memory),
    Errors(Errors),
    Counters(stats::Counters),
    Custom(Disk),
    Array(Array),
}

impl Kind {
    fn word(&self) -> &'static str {
        match self {
            Kind::Memory => "memory",
            Kind::Null => "null",
            Kind::File(_) => "file",
            Kind::Linear(_) => "linear",
            Kind::Mapped { .. } => "mapped",
            Kind::Stripe { .. } => "stripe",
            Kind::Raid { .. } => "raid",
            Kind::Delay { .. } => "delay",
            Kind::Error { .. } => "error",
            Kind::Stats { .. } => "stats",
            Kind::Crypt { .. } => "crypt",
            Kind::Passthru { .. } => "passthru",
            Kind::Custom { .. } => "custom",
            Kind::Gone => "gone",
        }
    }

    /// Reads a table. Opens files, so it may block: control plane only. `slot` finds the nodes below.
    pub fn new(
        name: &str,
        table: &Table,
        keys: &Keys,
        slot: impl Fn(&str) -> Result<u32, GraphError>,
    ) -> Result<Kind, GraphError> {
        Ok(match table {
            Table::Memory { .. } => Kind::Memory,
            Table::Null { .. } => Kind::Null,
            Table::File {
                path,
                block_size,
                read_only,
                create_size,
                direct,
            } => Kind::File(File::open(path, *block_size, *read_only, *create_size, *direct)?),
            Table::Linear { segments } => {
                let place = |segment: &crate::table::Segment| Ok((slot(&segment.on)?, segment.start, segment.blocks));
                Kind::Linear(segments.iter().map(place).collect::<Result<_, GraphError>>()?)
            }
            Table::Mapped { pieces, read_only } => {
                let run = |segment: &crate::table::Segment| Ok((slot(&segment.on)?, segment.start, segment.blocks));
                let part = |piece: &Piece| {
                    Ok(match piece {
                        Piece::Linear(segment) => Part::Linear(run(segment)?),
                        Piece::Stripe { on, chunk } => {
                            Part::Stripe(on.iter().map(run).collect::<Result<_, GraphError>>()?, *chunk)
                        }
                        Piece::Gap { blocks } => Part::Gap(*blocks),
                    })
                };
                Kind::Mapped {
                    pieces: pieces.iter().map(part).collect::<Result<_, GraphError>>()?,
                    read_only: *read_only,
                }
            }
            Table::Stripe { on, chunk } => Kind::Stripe {
                on: on.iter().map(|on| slot(on)).collect::<Result<_, _>>()?,
                chunk: *chunk,
            },
            Table::Raid {
                shape,
                used,
                on,
                replacements,
                bitmap,
                differs,
                noted,
                replay,
                read_only,
            } => {
                let place = |seat: &Option<table::Seat>| match seat {
                    Some(seat) => Ok(Some((slot(&seat.on)?, seat.start))),
                    None => Ok(None),
                };
                let member = |seat: &table::Seat| raid::Seat {
                    state: seat.state,
                    write_mostly: seat.write_mostly,
                    bad: seat.bad.clone(),
                    superblock: seat.superblock.as_ref().map(|(at, bytes)| (*at, bytes.0.clone())),
                };
                let behind = |place: usize| {
                    let known = replacements.iter().find(|(known, _)| usize::from(*known) == place);
                    known.map(|(_, seat)| seat.clone())
                };
                let replacements: Vec<Option<table::Seat>> = match replacements.is_empty() {
                    true => Vec::new(),
                    false => (0..on.len()).map(behind).collect(),
                };
                Kind::Raid {
                    on: on
                        .iter()
                        .chain(&replacements)
                        .map(place)
                        .collect::<Result<_, GraphError>>()?,
                    plan: Plan {
                        name: name.to_owned(),
                        shape: *shape,
                        used: *used,
                        members: on.iter().map(|seat| seat.as_ref().map(member)).collect(),
                        replacements: replacements.iter().map(|seat| seat.as_ref().map(member)).collect(),
                        bitmap: bitmap.as_ref().map(|bytes| bytes.0.clone()),
                        differs: differs.clone(),
                        noted: noted.clone(),
                        replay: *replay,
                        read_only: *read_only,
                    },
                }
            }
            Table::Delay {
                on,
                avg_read_us,
                p99_read_us,
                avg_write_us,
                p99_write_us,
            } => {
                let [a, b, c, d] =
                    [avg_read_us, p99_read_us, avg_write_us, p99_write_us].map(|us| Duration::from_micros(*us));
                Kind::Delay {
                    on: slot(on)?,
                    latencies: Latencies::new(a, b, c, d),
                }
            }
            Table::Error { on, inject } => Kind::Error {
                on: slot(on)?,
                inject: inject.clone(),
            },
            Table::Stats { on } => Kind::Stats { on: slot(on)? },
            Table::Crypt { on, key } => Kind::Crypt {
                on: slot(on)?,
                key: keys.get(key).ok_or_else(|| GraphError::Invalid {
                    name: name.into(),
                    reason: format!("there is no key {key:?}"),
                })?,
            },
            Table::Passthru { on } => Kind::Passthru { on: slot(on)? },
            Table::Custom { .. } => {
                let reason = "a custom device is built by Graph::build_custom, not from a table alone".into();
                return Err(GraphError::Invalid {
                    name: name.into(),
                    reason,
                });
            }
        })
    }

    /// The places it stands on, in the order of its parts (not each only once).
    pub fn below(&self) -> Vec<u32> {
        match self {
            Kind::Memory | Kind::Null | Kind::File(_) | Kind::Gone => Vec::new(),
            Kind::Linear(segments) => segments.iter().map(|segment| segment.0).collect(),
            Kind::Mapped { pieces, .. } => pieces.iter().flat_map(Part::runs).map(|run| run.0).collect(),
            Kind::Stripe { on, .. } | Kind::Custom { on, .. } => on.clone(),
            Kind::Raid { on, .. } => on.iter().flatten().map(|(slot, _)| *slot).collect(),
            Kind::Delay { on, .. } | Kind::Error { on, .. } | Kind::Crypt { on, .. } => vec![*on],
            Kind::Stats { on } | Kind::Passthru { on } => vec![*on],
        }
    }

    /// True if it lives on one core.
    pub fn has_home(&self) -> bool {
        match self {
            Kind::Memory | Kind::Error { .. } | Kind::Raid { .. } => true,
            Kind::Null | Kind::File(_) | Kind::Linear(_) | Kind::Mapped { .. } => false,
            Kind::Stripe { .. } | Kind::Delay { .. } | Kind::Crypt { .. } => false,
            Kind::Stats { .. } | Kind::Passthru { .. } | Kind::Gone => false,
            // Each core makes its own; a maker that wants one home is given one by `Graph::build_custom`.
            Kind::Custom { .. } => false,
        }
    }

    /// True if it stands on the whole of what is below and takes it for itself.
    pub fn takes_whole(&self) -> bool {
        match self {
            Kind::Stripe { .. } | Kind::Delay { .. } | Kind::Error { .. } | Kind::Crypt { .. } => true,
            Kind::Stats { .. } | Kind::Passthru { .. } | Kind::Custom { .. } => true,
            Kind::Linear(_) | Kind::Mapped { .. } => false,
            Kind::Raid { .. } => true,
            Kind::Memory | Kind::Null | Kind::File(_) | Kind::Gone => false,
        }
    }

    /// Whether this is what an array that runs has become: the same one with other members. It takes them then.
    pub fn goes_on(&self, array: &Array) -> bool {
        matches!(self, Kind::Raid { plan, .. } if array.change(plan))
    }

    /// The name of an array.
    pub fn name(&self) -> Option<&str> {
        match self {
            Kind::Raid { plan, .. } => Some(&plan.name),
            _ => None,
        }
    }

    /// It is an array with redundancy.
    pub fn is_array(&self) -> bool {
        matches!(self, Kind::Raid { .. })
    }

    /// What the device will be. `table` gives the lengths of leaves, `of` what is below.
    pub fn geometry(&self, table: &Table, of: impl Fn(u32) -> (Geometry, String)) -> Result<Geometry, String> {
        let whole = |on: &u32| Ok(of(*on).0);
        let geometry = match (self, table) {
            (
                Kind::Memory,
                Table::Memory {
                    blocks,
                    block_size,
                    physical_block_size,
                    optimal_io,
                },
            ) => Memory::geometry_of(
                *block_size,
                physical_block_size.unwrap_or(*block_size),
                *optimal_io,
                *blocks,
            ),
            (
                Kind::Null,
                Table::Null {
                    blocks,
                    block_size,
                    physical_block_size,
                },
            ) => Null::geometry_of(*block_size, physical_block_size.unwrap_or(*block_size), *blocks),
            (Kind::File(file), _) => file.geometry(),
            (Kind::Linear(segments), _) => {
                let cut = |(at, (on, start, blocks)): (usize, &(u32, u64, u64))| {
                    let (lower, name) = of(*on);
                    match start.checked_add(*blocks) {
                        Some(end) if end <= lower.blocks => Ok(Geometry {
                            blocks: *blocks,
                            ..lower
                        }),
                        _ => Err(format!(
                            "segment {at} is {blocks} blocks from block {start} of {name:?}, which has {}",
                            lower.blocks
                        )),
                    }
                };
                linear::geometry(&segments.iter().enumerate().map(cut).collect::<Result<Vec<_>, _>>()?)?
            }
            (Kind::Mapped { pieces, read_only }, _) => {
                let run = |(on, start, blocks): &Run| {
                    let (lower, name) = of(*on);
                    match start.checked_add(*blocks) {
                        Some(end) if end <= lower.blocks => Ok(Geometry {
                            blocks: *blocks,
                            ..lower
                        }),
                        _ => Err(format!(
                            "a piece is {blocks} blocks from block {start} of {name:?}, which has {}",
                            lower.blocks
                        )),
                    }
                };
                let part = |part: &Part| {
                    let runs = part.runs().iter().map(run).collect::<Result<Vec<_>, _>>()?;
                    match part {
                        Part::Linear(_) => linear::geometry(&runs),
                        // Rows that are not whole would be left out, and all behind them be in another place.
                        Part::Stripe(_, chunk)
                            if runs.iter().any(|r| {
                                r.blocks != runs[0].blocks || !r.blocks.is_multiple_of(u64::from((*chunk).max(1)))
                            }) =>
                        {
                            Err("the runs of a stripe differ in length, or do not end with a chunk".into())
                        }
                        Part::Stripe(_, chunk) => stripe::geometry(&runs, *chunk),
                        Part::Gap(blocks) => {
                            let runs = pieces.iter().flat_map(Part::runs);
                            let like = runs.map(|run| of(run.0).0).next();
                            let like = like.ok_or("there is nothing but gaps")?;
                            Ok(gap(like, *blocks))
                        }
                    }
                };
                let whole = linear::geometry(&pieces.iter().map(part).collect::<Result<Vec<_>, _>>()?)?;
                if *read_only { read_only::geometry(whole) } else { whole }
            }
            (Kind::Stripe { on, chunk }, _) => {
                stripe::geometry(&on.iter().map(|on| of(*on).0).collect::<Vec<_>>(), *chunk)?
            }
            (Kind::Raid { plan, on }, _) => {
                let cut = |member: &Option<(u32, u64)>| {
                    let Some((on, start)) = member else { return Ok(None) };
                    let (lower, name) = of(*on);
                    match start.checked_add(plan.used) {
                        Some(end) if end <= lower.blocks => Ok(Some(Geometry {
                            blocks: plan.used,
                            ..lower
                        })),
                        _ => Err(format!(
                            "a member gives {} blocks from block {start} of {name:?}, which has {}",
                            plan.used, lower.blocks
                        )),
                    }
                };
                let members = on.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
                let (members, replacements) = members.split_at(plan.members.len().min(members.len()));
                let whole = raid::geometry(plan.shape, members, replacements, plan.used)?;
                match plan.read_only {
                    true => read_only::geometry(whole),
                    false => whole,
                }
            }
            (Kind::Delay { on, .. } | Kind::Error { on, .. } | Kind::Stats { on } | Kind::Passthru { on }, _) => {
                return whole(on);
            }
            (Kind::Crypt { on, .. }, _) => crypt::geometry(whole(on)?),
            (Kind::Custom { geometry, .. }, _) => *geometry,
            (Kind::Memory | Kind::Null | Kind::Gone, _) => return Err("the table does not suit its device".into()),
        };
        geometry.check()?;
        if geometry.blocks == 0 {
            return Err("a disk of 0 blocks".into());
        }
        Ok(geometry)
    }

    /// Builds the device on this core. `at` finds the disks below.
    pub fn device(&self, geometry: Geometry, kept: &mut Kept, at: impl Fn(u32) -> Disk) -> Result<Disk, String> {
        Ok(match self {
            Kind::Memory => {
                let memory = match kept {
                    Kept::Memory(memory) => memory.clone(),
                    _ => Memory::new(geometry),
                };
                if memory.blocks() != geometry.blocks {
                    memory.resize(geometry.blocks)
                }
                *kept = Kept::Memory(memory.clone());
                Disk::new(memory)
            }
            Kind::Null => Disk::new(Null::new(geometry)),
            Kind::File(file) => Disk::new(file.with_blocks(geometry.blocks)),
            Kind::Linear(segments) => {
                let cut = |(on, start, blocks): &(u32, u64, u64)| {
                    at(*on)
                        .view(*start, *blocks)
                        .ok_or_else(|| "a disk below is shorter than its segment".to_owned())
                };
                Linear::build(&segments.iter().map(cut).collect::<Result<Vec<_>, _>>()?)?
            }
            Kind::Mapped { pieces, read_only } => {
                let cut = |(on, start, blocks): &Run| {
                    at(*on)
                        .view(*start, *blocks)
                        .ok_or_else(|| "a disk below is shorter than a piece".to_owned())
                };
                let part = |part: &Part| {
                    let runs = part.runs().iter().map(cut).collect::<Result<Vec<_>, _>>()?;
                    match part {
                        Part::Linear(_) => Linear::build(&runs),
                        Part::Stripe(_, chunk) => Stripe::build(&runs, *chunk),
                        Part::Gap(blocks) => Ok(Disk::new(Gap::new(gap(geometry, *blocks)))),
                    }
                };
                let whole = Linear::build(&pieces.iter().map(part).collect::<Result<Vec<_>, _>>()?)?;
                if *read_only {
                    Disk::new(ReadOnly::new(whole))
                } else {
                    whole
                }
            }
            Kind::Stripe { on, chunk } => Stripe::build(&on.iter().map(|on| at(*on)).collect::<Vec<_>>(), *chunk)?,
            Kind::Raid { plan, on } => {
                let cut = |member: &Option<(u32, u64)>| {
                    let Some((on, start)) = member else { return Ok(None) };
                    let whole = at(*on);
                    // It may have vanished and be of no length.
                    let data = whole.view(*start, plan.used).unwrap_or_else(|| {
                        let blocks = plan.used;
                        Disk::new(Gone::new(Geometry { blocks, ..geometry }))
                    });
                    Ok::<_, String>(Some(Parts { data, whole }))
                };
                let parts = on.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
                let array = match kept {
                    Kept::Array(array) => array.clone(),
                    _ => Array::new(plan.clone(), parts.clone(), geometry.block_size)?,
                };
                *kept = Kept::Array(array.clone());
                let device = array.device(parts, geometry);
                array.tend();
                match plan.read_only {
                    true => Disk::new(ReadOnly::new(device)),
                    false => device,
                }
            }
            Kind::Delay { on, latencies } => Disk::new(Delay::new(at(*on), latencies.clone())),
            Kind::Error { on, inject } => {
                let errors = match kept {
                    Kept::Errors(errors) => errors.clone(),
                    _ => {
                        let errors = Errors::default();
                        inject.iter().for_each(|one| errors.inject(one.clone()));
                        errors
                    }
                };
                *kept = Kept::Errors(errors.clone());
                Disk::new(Error::new(at(*on), errors))
            }
            Kind::Stats { on } => {
                let counters = match kept {
                    Kept::Counters(counters) => counters.clone(),
                    _ => stats::Counters::default(),
                };
                *kept = Kept::Counters(counters.clone());
                Disk::new(Stats::new(at(*on), counters))
            }
            Kind::Crypt { on, key } => Disk::new(Crypt::new(at(*on), key.current())),
            // Another name for the same disk costs nothing.
            Kind::Passthru { on } => at(*on),
            Kind::Custom { on, make, .. } => match kept {
                // A leaf keeps what it holds.
                Kept::Custom(disk) if on.is_empty() => disk.clone(),
                _ => {
                    let disk = make(&on.iter().map(|on| at(*on)).collect::<Vec<_>>())?;
                    *kept = Kept::Custom(disk.clone());
                    disk
                }
            },
            Kind::Gone => Disk::new(Gone::new(geometry)),
        })
    }
}

/// A gap in a row of disks that are like `like`.
fn gap(like: Geometry, blocks: u64) -> Geometry {
    Geometry {
        blocks,
        atomic: 0,
        ..like
    }
}
