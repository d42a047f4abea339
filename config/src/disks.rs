//! Disks and tables of a configuration: from the schema to wishes for the engine, and from the engine's wishes back to the schema.
//! Here bytes become blocks, relative paths become absolute, and nothing else happens.
use crate::{
    check::stands_on,
    schema::{self, Config, Disk},
    units::{Size, Span},
};
use bdev::{Graph, KeySource, NodeSpec, Table, table::Segment};
use lvol::{Create, Origin};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

/// What is used as a whole, by a host or by a table, and is therefore not looked into.
pub(crate) fn wholes(config: &Config) -> BTreeSet<&str> {
    let volumes = config
        .volumes
        .iter()
        .filter_map(|v| v.on.as_ref().or(v.name.as_ref()))
        .map(|on| on.as_str());
    let luns = config
        .targets
        .iscsi
        .nodes
        .iter()
        .flat_map(|n| &n.luns)
        .map(|lun| lun.volume.as_str());
    let namespaces = config
        .targets
        .nvme
        .subsystems
        .iter()
        .flat_map(|s| &s.namespaces)
        .map(|n| n.volume.as_str());
    let tables = config.tables.iter().flat_map(stands_on);
    volumes.chain(luns).chain(namespaces).chain(tables).collect()
}

/// The wish for a disk.
pub(crate) fn disk(disk: &Disk, state: &Path, examine: bool) -> Create {
    let block_size = disk.block_size.as_deref().copied();
    let block = block_size.unwrap_or(512);
    let blocks = |size: &Size| size.0 / u64::from(block.max(1));
    let table = if let Some(size) = &disk.memory {
        Table::Memory {
            blocks: blocks(size),
            block_size: block,
            physical_block_size: None,
            optimal_io: 0,
        }
    } else if let Some(size) = &disk.void {
        Table::Null {
            blocks: blocks(size),
            block_size: block,
            physical_block_size: None,
        }
    } else {
        // Checked: exactly one of the four is there.
        let path = disk.device.as_ref().or(disk.file.as_ref()).cloned().unwrap_or_default();
        Table::File {
            path: state.join(path),
            block_size,
            read_only: disk.read_only,
            create_size: disk.create.as_ref().map(|size| size.0),
            direct: disk.direct,
        }
    };
    wish(&disk.name, disk.uuid, table, examine)
}

fn wish(name: &str, uuid: Option<uuid::Uuid>, table: Table, examine: bool) -> Create {
    Create {
        spec: NodeSpec {
            uuid,
            ..NodeSpec::new(name, table)
        },
        origin: Origin::Config,
        examine,
    }
}

/// The wish for a table, or the disk below that is not there yet.
pub(crate) fn table(table: &schema::Table, graph: &Graph, examine: bool) -> Result<Create, String> {
    let below = |on: &str| {
        let node = graph.info(on).map(|info| info.geometry);
        node.ok_or_else(|| format!("{on:?}, on which it stands, is not there"))
    };
    let made = if let Some(segments) = &table.linear {
        let mut all = Vec::with_capacity(segments.len());
        for segment in segments {
            let geometry = below(&segment.on)?;
            let block = u64::from(geometry.block_size);
            let start = segment.start.0 / block;
            let blocks = segment
                .size
                .as_ref()
                .map_or_else(|| geometry.blocks.saturating_sub(start), |size| size.0 / block);
            all.push(Segment {
                on: segment.on.to_string(),
                start,
                blocks,
            });
        }
        Table::Linear { segments: all }
    } else if let Some(stripe) = &table.stripe {
        let on: Vec<String> = stripe.on.iter().map(|on| on.to_string()).collect();
        let mut chunk = 0;
        for member in &on {
            // A chunk has at most 64 MiB, so it fits.
            chunk = (stripe.chunk.0 / u64::from(below(member)?.block_size)) as u32;
        }
        Table::Stripe { on, chunk }
    } else if let Some(delay) = &table.delay {
        below(&delay.on)?;
        let micros = |span: Span| u64::try_from(span.0.as_micros()).unwrap_or(u64::MAX);
        Table::Delay {
            on: delay.on.to_string(),
            avg_read_us: micros(delay.read),
            p99_read_us: micros(delay.read_p99.unwrap_or(delay.read)),
            avg_write_us: micros(delay.write),
            p99_write_us: micros(delay.write_p99.unwrap_or(delay.write)),
        }
    } else if let Some(error) = &table.error {
        below(&error.on)?;
        Table::Error {
            on: error.on.to_string(),
            inject: error.inject.clone(),
        }
    } else if let Some(crypt) = &table.crypt {
        below(&crypt.on)?;
        Table::Crypt {
            on: crypt.on.to_string(),
            // Its key is called after it.
            key: table.name.to_string(),
        }
    } else if let Some(stats) = &table.stats {
        below(&stats.on)?;
        Table::Stats {
            on: stats.on.to_string(),
        }
    } else {
        // Checked: exactly one kind is there.
        let on = table
            .passthru
            .as_ref()
            .map(|over| over.on.to_string())
            .unwrap_or_default();
        below(&on)?;
        Table::Passthru { on }
    };
    Ok(wish(&table.name, table.uuid, made, examine))
}

/// The way back: a wish as the disk or table it would be in a file. Nothing for what no file can say.
pub(crate) enum Shown {
    Disk(Box<Disk>),
    Table(Box<schema::Table>),
}

impl Shown {
    fn disk(disk: Disk) -> Self {
        Self::Disk(Box::new(disk))
    }
    fn table(table: schema::Table) -> Self {
        Self::Table(Box::new(table))
    }
}

pub(crate) fn shown(wish: &Create, graph: &Graph) -> Option<Shown> {
    let spec = &wish.spec;
    let name = spec.name.as_str();
    let uuid = spec.uuid.filter(|uuid| *uuid != NodeSpec::uuid_of(name));
    let disk = Disk {
        name: name.into(),
        uuid,
        ..Disk::default()
    };
    let table = schema::Table {
        name: name.into(),
        uuid,
        ..schema::Table::default()
    };
    let block_of = |on: &str| graph.info(on).map_or(512, |info| u64::from(info.geometry.block_size));
    let over = |on: &String| Some(schema::Over { on: on.as_str().into() });
    // 512 is what is meant when nothing is said.
    let said = |block_size: u32| (block_size != 512).then(|| block_size.into());
    Some(match &spec.table {
        Table::Memory { blocks, block_size, .. } => {
            let memory = Some(Size(blocks * u64::from(*block_size)).into());
            Shown::disk(Disk {
                memory,
                block_size: said(*block_size),
                ..disk
            })
        }
        Table::Null { blocks, block_size, .. } => {
            let void = Some(Size(blocks * u64::from(*block_size)).into());
            Shown::disk(Disk {
                void,
                block_size: said(*block_size),
                ..disk
            })
        }
        Table::File {
            path,
            block_size,
            read_only,
            create_size,
            direct,
        } => {
            let device = is_device(path);
            Shown::disk(Disk {
                file: (!device).then(|| path.clone()),
                device: device.then(|| path.clone()),
                create: create_size.map(|size| Size(size).into()),
                block_size: block_size.map(Into::into),
                read_only: *read_only,
                direct: *direct,
                ..disk
            })
        }
        Table::Linear { segments } => {
            let piece = |s: &Segment| schema::Segment {
                on: s.on.as_str().into(),
                start: Size(s.start * block_of(&s.on)).into(),
                size: Some(Size(s.blocks * block_of(&s.on)).into()),
            };
            Shown::table(schema::Table {
                linear: Some(segments.iter().map(piece).collect()),
                ..table
            })
        }
        Table::Stripe { on, chunk } => {
            let block = on.first().map_or(512, |on| block_of(on));
            let members: Vec<_> = on.iter().map(|on| on.as_str().into()).collect();
            let stripe = schema::Stripe {
                on: members.into(),
                chunk: Size(u64::from(*chunk) * block).into(),
            };
            Shown::table(schema::Table {
                stripe: Some(stripe),
                ..table
            })
        }
        Table::Delay {
            on,
            avg_read_us,
            p99_read_us,
            avg_write_us,
            p99_write_us,
        } => {
            let span = |micros: &u64| Span(Duration::from_micros(*micros));
            let delay = schema::Delay {
                on: on.as_str().into(),
                read: span(avg_read_us),
                read_p99: (p99_read_us != avg_read_us).then(|| span(p99_read_us)),
                write: span(avg_write_us),
                write_p99: (p99_write_us != avg_write_us).then(|| span(p99_write_us)),
            };
            Shown::table(schema::Table {
                delay: Some(delay),
                ..table
            })
        }
        Table::Error { on, inject } => {
            let error = schema::Faulty {
                on: on.as_str().into(),
                inject: inject.clone(),
            };
            Shown::table(schema::Table {
                error: Some(error),
                ..table
            })
        }
        Table::Crypt { on, key } => {
            let (mut crypt, key) = (schema::Crypt::default(), graph.keys().info(key)?);
            crypt.on = on.as_str().into();
            match key.source {
                // No file may hold it.
                KeySource::Given => return None,
                KeySource::File(path) => crypt.key_file = Some(path),
                KeySource::Random => crypt.random_key = Some(key.bits.into()),
            }
            Shown::table(schema::Table {
                crypt: Some(crypt),
                ..table
            })
        }
        Table::Stats { on } => Shown::table(schema::Table {
            stats: over(on),
            ..table
        }),
        Table::Passthru { on } => Shown::table(schema::Table {
            passthru: over(on),
            ..table
        }),
        _ => return None,
    })
}

fn is_device(path: &PathBuf) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device()) || path.starts_with("/dev")
}
