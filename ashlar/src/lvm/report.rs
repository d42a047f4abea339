//! `ashlar lvm pvs`, `vgs` and `lvs`: LVM2's reports, field by field (`lvmreport(7)`), of what the running target has.
use super::{
    cli::Report,
    fields::{
        Cell, Disk, Field, Group, LV_USUAL, LvRow, OF_SEGMENT, PV_USUAL, PvRow, SEG_USUAL, VG_USUAL, logical, physical,
        volume_groups,
    },
    units::Units,
};
use crate::{ask, human};
use rpc::client::Client;
use serde_json::{Map, Value, json};
use std::error::Error;

/// Which report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Physical volumes.
    Pvs,
    /// Groups.
    Vgs,
    /// Logical volumes.
    Lvs,
}

/// Every group of LVM2's format.
pub fn groups(client: &mut Client) -> Result<Vec<Group>, Box<dyn Error>> {
    let mut all: Vec<Group> = client.call("ashlar_get_groups", json!({}))?;
    all.retain(|group| group.format == "lvm2");
    Ok(all)
}

/// Prints a report.
pub fn run(client: &mut Client, which: Which, args: &Report) -> Result<(), Box<dyn Error>> {
    let groups = groups(client)?;
    let mut letters = args.units.chars();
    let unit = letters.next().filter(|_| letters.next().is_none());
    let unit = unit.ok_or_else(|| format!("--units {}: one letter, such as b, m or g", args.units))?;
    let units = Units::new(unit, !args.nosuffix)?;
    let named = |name: &str| {
        args.names
            .iter()
            .any(|wanted| wanted.trim_start_matches("/dev/") == name)
    };
    let some = !args.names.is_empty();
    match which {
        Which::Vgs => {
            let rows = groups.iter().filter(|group| !some || named(&group.name)).collect();
            print("vg", &volume_groups(), VG_USUAL, rows, args, units)
        }
        Which::Pvs => {
            let disks: Vec<Disk> = client.call("ashlar_get_disks", json!({}))?;
            let mut rows = Vec::new();
            for group in &groups {
                for seat in &group.members {
                    let disk = seat
                        .disk
                        .as_ref()
                        .and_then(|name| disks.iter().find(|disk| disk.name == *name));
                    rows.push(PvRow {
                        group: Some(group),
                        seat: Some(seat),
                        disk,
                    });
                }
            }
            let member = |disk: &&Disk| {
                groups
                    .iter()
                    .any(|group| group.members.iter().any(|seat| seat.disk.as_ref() == Some(&disk.name)))
            };
            let orphans = disks
                .iter()
                .filter(|disk| disk.format.as_deref() == Some("lvm2") && !member(disk));
            rows.extend(orphans.map(|disk| PvRow {
                group: None,
                seat: None,
                disk: Some(disk),
            }));
            rows.retain(|row| !some || row.disk.is_some_and(|disk| named(&disk.name)));
            rows.sort_by(|a, b| a.disk.map(|disk| &disk.name).cmp(&b.disk.map(|disk| &disk.name)));
            print("pv", &physical(), PV_USUAL, rows, args, units)
        }
        Which::Lvs => {
            let disks: Vec<Disk> = client.call("ashlar_get_disks", json!({}))?;
            let opens: std::collections::BTreeMap<&str, u32> = disks
                .iter()
                .filter_map(|disk| Some((disk.name.as_str(), disk.node.as_ref()?.opens)))
                .collect();
            let usual = if args.segments { SEG_USUAL } else { LV_USUAL };
            let fields = wanted(args, usual);
            let by_segment = args.segments || fields.iter().any(|field| OF_SEGMENT.contains(&field.as_str()));
            let mut rows = Vec::new();
            for group in &groups {
                for volume in group.volumes.iter().filter(|volume| args.all || !volume.hidden) {
                    if some && !named(&group.name) && !named(&volume.disk) {
                        continue;
                    }
                    let row = |segment| LvRow {
                        group,
                        volume,
                        segment,
                        opens: opens.get(volume.disk.as_str()).copied().unwrap_or_default(),
                    };
                    match by_segment {
                        true => rows.extend(volume.segments.iter().map(|segment| row(Some(segment)))),
                        false => rows.push(row(None)),
                    }
                }
            }
            rows.sort_by(|a, b| (&a.group.name, &a.volume.name).cmp(&(&b.group.name, &b.volume.name)));
            print("lv", &logical(), usual, rows, args, units)
        }
    }
}

/// The fields that are asked for, by LVM2's names.
fn wanted(args: &Report, usual: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    let split = |text: &str| {
        text.split(',')
            .filter(|f| !f.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match args.options.first() {
        Some(first) if !first.starts_with('+') => {}
        _ => fields.extend(split(usual)),
    }
    for option in &args.options {
        fields.extend(split(option.trim_start_matches('+')));
    }
    fields
}

fn find<'a, R>(fields: &'a [Field<R>], kind: &str, name: &str) -> Result<&'a Field<R>, String> {
    let long = format!("{kind}_{name}");
    let other = name.replace("stripesize", "stripe_size");
    let found = fields
        .iter()
        .find(|(known, ..)| *known == name || *known == long || *known == other);
    found.ok_or_else(|| {
        let known: Vec<&str> = fields.iter().map(|(known, ..)| *known).collect();
        format!("there is no field {name:?} here; there are {}", known.join(", "))
    })
}

fn print<R>(
    kind: &str,
    known: &[Field<R>],
    usual: &str,
    mut rows: Vec<R>,
    args: &Report,
    units: Units,
) -> Result<(), Box<dyn Error>> {
    let fields = wanted(args, usual);
    let fields: Vec<&Field<R>> = fields
        .iter()
        .map(|name| find(known, kind, name))
        .collect::<Result<_, _>>()?;
    for key in args.sort.iter().flat_map(|keys| keys.split(',')).rev() {
        let (name, down) = match key.strip_prefix('-') {
            Some(name) => (name, true),
            None => (key.trim_start_matches('+'), false),
        };
        let field = find(known, kind, name)?;
        rows.sort_by(|a, b| {
            let order = field.2(a).compare(&field.2(b));
            if down { order.reverse() } else { order }
        });
    }
    if args.reportformat.as_deref() == Some("json") {
        let object = |row: &R| -> Value {
            let pairs = fields
                .iter()
                .map(|(name, _, of)| ((*name).to_owned(), of(row).print(units).into()));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        let rows: Vec<Value> = rows.iter().map(object).collect();
        let rows_are = if args.segments { "seg" } else { kind };
        ask::print_json(&json!({ "report": [{ rows_are: rows }] }));
        return Ok(());
    }
    let cells = rows
        .iter()
        .map(|row| fields.iter().map(|(_, _, of)| of(row).print(units)).collect::<Vec<_>>());
    if let Some(separator) = &args.separator {
        let mut text = String::new();
        if !args.noheadings {
            let heads: Vec<&str> = fields.iter().map(|(_, head, _)| *head).collect();
            text += &format!("  {}\n", heads.join(separator));
        }
        for row in cells {
            text += &format!("  {}\n", row.join(separator));
        }
        ask::print_text(&text);
        return Ok(());
    }
    let right = |row: &R, of: fn(&R) -> Cell| !matches!(of(row), Cell::Text(_));
    let heads: Vec<String> = fields
        .iter()
        .map(|(_, head, of)| match rows.first().is_some_and(|row| right(row, *of)) {
            true => format!(">{head}"),
            false => (*head).to_owned(),
        })
        .collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let table = human::table(&heads, cells);
    let lines = table.lines().skip(usize::from(args.noheadings));
    let text: String = lines.map(|line| format!("  {line}\n")).collect();
    if !rows.is_empty() {
        ask::print_text(&text);
    }
    Ok(())
}
