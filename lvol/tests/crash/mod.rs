//! Power cuts, in memory. A [`Lab`] holds disks that a plan is made for and carried out on; [`sweep`](sweep::sweep) then takes the power away at
//! every point at which it matters and asks what discovery finds.
//!
//! ```text
//!   let mut lab = Lab::new();
//!   lab.add(Image::new("d0", 40_000, 512));
//!   lab.change(&Request::new("label-create", "d0").with("scheme", "gpt"));        plans, writes, discovers again
//!   let plan = lab.plan(&request).unwrap();
//!   sweep(&lab, &plan, |found, _| found.summary(), |state, _| …more checks…);
//! ```
//!
//! Discovery is the engine's own (`judge` and `Format::assemble`), without a graph: what it proposes are the disks `d0p1`, `vg/lv`, … of the lab.
//! Take it into a test with `#[path = "crash/mod.rs"] mod crash;`.
#![allow(dead_code)]
pub mod image;
pub mod sweep;

use bdev::{Table, raid::Places, table::Piece};
use image::Image;
use lvol::{
    Findings, Group, LogicalVolume, Partition, Registry, Verdict,
    backup::{self, DiskCopy},
    format::Proposal,
    group::{Enrolled, Given, Member, Shared},
    judge,
    lvm2::Settings,
    part::edit::show::{self, Shown},
    plan::{
        Disks, Facts, Medium, Plan, Refusal, Request, Stamp,
        carry::{Doing, carry_out},
        verb,
    },
    probe::{Probe, Reading, Source},
};
use spec::Extent;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    future::Future,
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};
use uuid::Uuid;

/// Nothing here ever waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory waited"),
    }
}

/// Always the same stamp: identities follow from the request.
pub fn stamp() -> Stamp {
    Stamp {
        seed: Uuid::from_u128(0x5eed),
        time: 1_800_000_000,
        host: "lab".into(),
    }
}

/// What happened to the disks.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes on their way to a disk.
    Write {
        /// The disk: one that stands on nothing.
        disk: String,
        /// Byte address.
        offset: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// What was written to a disk lasts.
    Flush {
        /// The disk.
        disk: String,
    },
}

/// A disk of the lab: one that was put there, or one that discovery proposes.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its identity.
    pub uuid: Uuid,
    /// Length in blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// What it is made of; nothing for a disk that was put there.
    pub table: Option<Table>,
    /// What discovery made of it.
    pub findings: Findings,
    /// What stands on it.
    pub parts: Vec<String>,
    /// If it is a partition: what its table says.
    pub partition: Option<Partition>,
    /// If it is a volume: what its group says.
    pub volume: Option<Shared<LogicalVolume>>,
    /// It is a volume of a group, or lies on one.
    on_volume: bool,
}

/// What discovery finds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Every disk.
    pub nodes: BTreeMap<String, Node>,
    /// Every group.
    pub groups: Vec<Group>,
}

impl Found {
    /// The disks and groups that discovery makes, with all that their tables say of them; without verdicts and notes, which may tell of damage.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (name, node) in self.nodes.iter().filter(|(_, node)| node.table.is_some()) {
            let _ = writeln!(
                text,
                "{name} {} {:?} {:?} {:?}",
                node.uuid, node.table, node.partition, node.volume
            );
        }
        for group in &self.groups {
            let _ = writeln!(text, "{} {} {:?} {}", group.name, group.id, group.state, group.seqno);
            for member in &group.members {
                let _ = writeln!(text, "  {member:?}");
            }
            for volume in &group.volumes {
                let _ = writeln!(text, "  {} {:?} {:?}", volume.disk, volume.what, volume.inactive);
            }
        }
        text
    }

    /// Where a block of a disk is: the disk that stands on nothing, and the block there.
    fn place(&self, name: &str, block: u64) -> Option<(String, u64)> {
        let Some(table) = &self.nodes.get(name)?.table else {
            return Some((name.to_owned(), block));
        };
        let (mut at, run) = (block, |on: &bdev::table::Segment, at: u64| {
            self.place(&on.on, on.start + at)
        });
        match table {
            Table::Linear { segments } => {
                for segment in segments {
                    if at < segment.blocks {
                        return run(segment, at);
                    }
                    at -= segment.blocks;
                }
                None
            }
            Table::Mapped { pieces, .. } => {
                for piece in pieces {
                    let length = piece.blocks();
                    if at >= length {
                        at -= length;
                        continue;
                    }
                    return match piece {
                        Piece::Linear(segment) => run(segment, at),
                        Piece::Stripe { on, chunk } => {
                            let (row, inside) = (at / u64::from(*chunk), at % u64::from(*chunk));
                            let member = (row % on.len() as u64) as usize;
                            run(&on[member], row / on.len() as u64 * u64::from(*chunk) + inside)
                        }
                        Piece::Gap { .. } => None,
                    };
                }
                None
            }
            // Sums and copies are the runtime's: a block of an array is where its first copy is.
            Table::Raid { shape, used, on, .. } => {
                let member = |member: u16, at: u64| {
                    let seat = on[usize::from(member)].as_ref()?;
                    self.place(&seat.on, seat.start + at)
                };
                match shape.places(on.len(), *used).unwrap() {
                    Places::Mirror { .. } => (0..on.len() as u16).find_map(|number| member(number, at)),
                    Places::Raid10(raid10) => raid10.places(at).find_map(|place| member(place.member, place.sector)),
                    Places::Parity { parity, .. } => {
                        let place = parity.place(at);
                        member(place.member, place.sector)
                    }
                }
            }
            other => panic!("no format proposes {other:?}"),
        }
    }
}

/// Disks in memory.
#[derive(Default)]
pub struct Lab {
    images: Mutex<BTreeMap<String, Image>>,
    log: Mutex<Vec<Event>>,
    found: Found,
    /// The groups that were found the last time.
    before: Vec<Group>,
    /// What is wanted of volume groups; another look makes it count.
    pub settings: Settings,
    users: BTreeMap<String, String>,
    archive: Mutex<BTreeMap<(String, u64), Vec<u8>>>,
}

impl Clone for Lab {
    fn clone(&self) -> Self {
        Self {
            images: Mutex::new(self.images()),
            log: Mutex::default(),
            found: self.found.clone(),
            before: self.before.clone(),
            settings: self.settings.clone(),
            users: self.users.clone(),
            archive: Mutex::new(self.archive.lock().unwrap().clone()),
        }
    }
}

impl Lab {
    /// No disks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a disk there, or another one in its place, and looks at it.
    pub fn add(&mut self, image: Image) -> &mut Self {
        self.images.lock().unwrap().insert(image.name.clone(), image);
        self.discover()
    }

    /// The disks that stand on nothing.
    pub fn images(&self) -> BTreeMap<String, Image> {
        self.images.lock().unwrap().clone()
    }

    /// The same lab with other bytes on its disks.
    pub fn with(&self, images: BTreeMap<String, Image>) -> Self {
        let mut lab = self.clone();
        lab.images = Mutex::new(images);
        lab.discover();
        lab
    }

    /// Somebody uses a disk.
    pub fn use_by(&mut self, disk: &str, who: &str) -> &mut Self {
        self.users.insert(disk.into(), who.into());
        self
    }

    /// What discovery has found.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// What happened since the last time, in order.
    pub fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Plans.
    pub fn plan(&self, request: &Request) -> Result<Plan, Refusal> {
        self.plan_with(request, &stamp())
    }

    /// The partition table of a disk.
    pub fn table(&self, disk: &str) -> Shown {
        now(show::table(self, disk)).unwrap()
    }

    /// Plans with another stamp.
    pub fn plan_with(&self, request: &Request, stamp: &Stamp) -> Result<Plan, Refusal> {
        now(verb::plan(self, request, stamp))
    }

    /// Carries a plan out, keeps its archive, and looks at everything again.
    pub fn carry(&mut self, plan: &Plan) -> &mut Self {
        let mut archive = self.archive.lock().unwrap();
        for text in &plan.archive {
            archive.insert((text.group.clone(), text.seqno), text.text.0.clone());
        }
        drop(archive);
        now(carry_out(plan, self)).unwrap_or_else(|why| panic!("{why}: {plan}"));
        self.discover()
    }

    /// Plans and carries out.
    pub fn change(&mut self, request: &Request) -> Plan {
        let plan = self.plan(request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
        self.carry(&plan);
        plan
    }

    /// Looks at everything again.
    pub fn discover(&mut self) -> &mut Self {
        self.before = std::mem::take(&mut self.found).groups;
        for (name, image) in self.images() {
            let node = Node {
                uuid: image.uuid,
                blocks: image.blocks,
                block_size: image.block_size,
                table: None,
                findings: Findings::default(),
                parts: Vec::new(),
                partition: None,
                volume: None,
                on_volume: false,
            };
            self.found.nodes.insert(name, node);
        }
        let mut looked = BTreeSet::new();
        loop {
            let next: Vec<String> = self
                .found
                .nodes
                .keys()
                .filter(|name| !looked.contains(*name))
                .cloned()
                .collect();
            for name in &next {
                self.examine(name);
                looked.insert(name.clone());
            }
            if next.is_empty() {
                let came = self.assemble();
                if came.is_empty() {
                    return self;
                }
                looked.retain(|name| !came.contains(name));
            }
        }
    }

    fn examine(&mut self, name: &str) {
        let node = self.found.nodes[name].clone();
        let findings = {
            let source = On { lab: self, name };
            let probe = now(Probe::new(name, node.uuid, node.blocks, node.block_size, &source));
            now(judge::judge(Registry::builtin(), probe.being(node.partition.as_ref())))
        };
        for proposal in findings.nodes.clone() {
            self.place(proposal, node.on_volume);
        }
        self.found.nodes.get_mut(name).unwrap().findings = findings;
    }

    fn place(&mut self, proposal: Proposal, on_volume: bool) {
        let below: Vec<String> = proposal.table.below().into_iter().map(str::to_owned).collect();
        let blocks = match &proposal.table {
            Table::Linear { segments } => segments.iter().map(|segment| segment.blocks).sum(),
            Table::Mapped { pieces, .. } => pieces.iter().map(Piece::blocks).sum(),
            Table::Raid { shape, used, on, .. } => shape.places(on.len(), *used).unwrap().blocks(),
            other => panic!("no format proposes {other:?}"),
        };
        for on in &below {
            let parts = &mut self.found.nodes.get_mut(on).unwrap().parts;
            if !parts.contains(&proposal.name) {
                parts.push(proposal.name.clone());
            }
        }
        let node = Node {
            uuid: proposal.uuid,
            blocks,
            block_size: self.found.nodes[&below[0]].block_size,
            table: Some(proposal.table),
            findings: Findings::default(),
            parts: Vec::new(),
            partition: proposal.partition,
            on_volume,
            volume: proposal.volume,
        };
        self.found.nodes.insert(proposal.name, node);
    }

    /// Puts groups together. The volumes that came, or are made of something else now.
    fn assemble(&mut self) -> Vec<String> {
        let mut groups = Vec::new();
        for format in Registry::builtin().formats() {
            let candidates: Vec<(String, u64, u32, Member)> = self
                .found
                .nodes
                .iter()
                .filter(|(_, node)| {
                    (format.takes_volumes() || !node.on_volume) && node.findings.format == Some(format.name())
                })
                .filter_map(|(name, node)| {
                    Some((
                        name.clone(),
                        node.blocks,
                        node.block_size,
                        node.findings.member.clone()?,
                    ))
                })
                .collect();
            let enrolled: Vec<Enrolled<'_>> = candidates
                .iter()
                .map(|(disk, blocks, block_size, member)| Enrolled {
                    disk,
                    blocks: *blocks,
                    block_size: *block_size,
                    member,
                    carries: false,
                    gone: false,
                })
                .collect();
            let lvm2 = &self.settings;
            let assembly = format.assemble(
                &enrolled,
                Given {
                    before: &[],
                    patient: &BTreeSet::new(),
                    lvm2,
                    desires: &Default::default(),
                },
            );
            // What is taken from before is what it would be anyway.
            let before = &self.before;
            assert_eq!(
                format.assemble(
                    &enrolled,
                    Given {
                        before,
                        patient: &BTreeSet::new(),
                        lvm2,
                        desires: &Default::default(),
                    }
                ),
                assembly
            );
            for (disk, standing) in assembly.standings {
                let findings = &mut self.found.nodes.get_mut(&disk).unwrap().findings;
                findings.verdict = standing.verdict;
                findings.reason = standing.reason;
                findings.notes.extend(standing.notes);
            }
            groups.extend(assembly.groups);
        }
        let mut came = Vec::new();
        for group in &mut groups {
            let format = Registry::builtin().format(&group.format);
            let disks = format.is_some_and(|format| format.volumes_are_disks());
            for volume in &mut group.volumes {
                if let Some(node) = volume.node.clone()
                    && self
                        .found
                        .nodes
                        .get(&node.name)
                        .is_none_or(|there| there.table.as_ref() != Some(&node.table))
                {
                    let below = node.table.below().into_iter().any(|on| self.found.nodes[on].on_volume);
                    came.push(node.name.clone());
                    self.place((*node).clone(), !disks || below);
                }
            }
        }
        self.found.groups = groups;
        came
    }

    /// All bytes of a disk.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let blocks = self.found.nodes[name].blocks;
        self.get(name, Extent::new(0, blocks)).unwrap()
    }

    /// One block of a disk.
    pub fn bytes_of(&self, name: &str, block: u64) -> Vec<u8> {
        self.get(name, Extent::new(block, 1)).unwrap()
    }

    /// A copy of the metadata of a disk.
    pub fn copy(&self, name: &str) -> DiskCopy {
        let node = &self.found.nodes[name];
        let format = node
            .findings
            .format
            .unwrap_or_else(|| panic!("nobody has claimed {name}"));
        let source = On { lab: self, name };
        let probe = now(Probe::new(name, node.uuid, node.blocks, node.block_size, &source));
        let probe = probe.being(node.partition.as_ref());
        let areas = backup::areas(Registry::builtin().format(format).unwrap(), &probe);
        DiskCopy {
            name: name.to_owned(),
            uuid: node.uuid,
            blocks: node.blocks,
            block_size: node.block_size,
            product: "image".into(),
            path: None,
            wwid: None,
            serial: None,
            on: Vec::new(),
            format: Some(format.to_owned()),
            was: node.findings.reason.clone(),
            areas: now(areas).unwrap(),
        }
    }

    /// Writes to a disk past all plans, and leaves no trace in the log.
    pub fn put(&self, name: &str, offset: u64, bytes: &[u8]) {
        let size = u64::from(self.found.nodes[name].block_size);
        assert!(offset.is_multiple_of(size) && (bytes.len() as u64).is_multiple_of(size));
        for (chunk, block) in bytes.chunks(size as usize).zip(offset / size..) {
            let (disk, at) = self.found.place(name, block).unwrap();
            let mut images = self.images.lock().unwrap();
            images.get_mut(&disk).unwrap().write(at * size, chunk);
        }
    }

    fn get(&self, name: &str, extent: Extent) -> Result<Vec<u8>, String> {
        let node = self
            .found
            .nodes
            .get(name)
            .ok_or_else(|| format!("there is no disk {name}"))?;
        let (size, images) = (u64::from(node.block_size), self.images.lock().unwrap());
        if let (Some(image), None) = (images.get(name), &node.table) {
            return Ok(image.read(extent.start * size, extent.count * size));
        }
        let mut bytes = Vec::with_capacity((extent.count * size) as usize);
        for block in extent.start..extent.start + extent.count {
            let (disk, at) = self
                .found
                .place(name, block)
                .ok_or_else(|| format!("{name} has no block {block}"))?;
            bytes.extend(images[&disk].read(at * size, size));
        }
        Ok(bytes)
    }
}

struct On<'a> {
    lab: &'a Lab,
    name: &'a str,
}

impl Source for On<'_> {
    fn read(&self, extent: Extent) -> Reading<'_> {
        Box::pin(async move { self.lab.get(self.name, extent) })
    }
}

impl Disks for Lab {
    fn names(&self) -> Vec<String> {
        self.found.nodes.keys().cloned().collect()
    }
    fn facts(&self, name: &str) -> Option<Facts> {
        let (name, node) = self
            .found
            .nodes
            .iter()
            .find(|(key, node)| *key == name || node.uuid.to_string() == name)?;
        Some(Facts {
            name: name.clone(),
            uuid: node.uuid,
            blocks: node.blocks,
            block_size: node.block_size,
            physical_block_size: node.block_size,
            read_only: false,
            verdict: node.findings.verdict,
            reason: node.findings.reason.clone(),
            format: node
                .findings
                .format
                .filter(|_| matches!(node.findings.verdict, Verdict::Claimed | Verdict::Ambiguous)),
            signatures: node.findings.signatures.clone(),
            parts: node.parts.clone(),
            volumes: std::sync::Arc::default(),
            partition: node.partition.clone(),
            on_volume: node.on_volume,
            user: self.users.get(name).cloned(),
        })
    }
    fn groups(&self) -> Vec<Group> {
        self.found.groups.clone()
    }
    fn read<'a>(&'a self, name: &'a str, extent: Extent) -> Reading<'a> {
        Box::pin(async move { self.get(name, extent) })
    }
    fn lvm2(&self) -> Settings {
        self.settings.clone()
    }
    fn archived(&self, group: &str, seqno: u64) -> Option<Vec<u8>> {
        self.archive.lock().unwrap().get(&(group.to_owned(), seqno)).cloned()
    }

    fn archive(&self, group: &str) -> Vec<u64> {
        let archive = self.archive.lock().unwrap();
        archive
            .keys()
            .filter(|(of, _)| of == group)
            .map(|(_, change)| *change)
            .collect()
    }
}

impl Medium for Lab {
    fn read<'a>(&'a self, disk: &'a str, extent: Extent) -> Reading<'a> {
        Disks::read(self, disk, extent)
    }
    fn write<'a>(&'a self, disk: &'a str, block: u64, bytes: &'a [u8]) -> Doing<'a> {
        Box::pin(async move {
            let size = u64::from(self.found.nodes[disk].block_size);
            self.put(disk, block * size, bytes);
            let mut log = self.log.lock().unwrap();
            for (chunk, at) in bytes.chunks(size as usize).zip(block..) {
                let (disk, at) = self.found.place(disk, at).unwrap();
                match log.last_mut() {
                    Some(Event::Write {
                        disk: last,
                        offset,
                        bytes,
                    }) if *last == disk && *offset + bytes.len() as u64 == at * size => bytes.extend(chunk),
                    _ => log.push(Event::Write {
                        disk,
                        offset: at * size,
                        bytes: chunk.to_vec(),
                    }),
                }
            }
            Ok(())
        })
    }
    fn flush<'a>(&'a self, disk: &'a str) -> Doing<'a> {
        Box::pin(async move {
            // A flush of a window is one of everything below it.
            let (mut todo, mut log) = (vec![disk.to_owned()], self.log.lock().unwrap());
            while let Some(name) = todo.pop() {
                match &self.found.nodes[&name].table {
                    Some(table) => todo.extend(table.below().into_iter().map(str::to_owned)),
                    None => log.push(Event::Flush { disk: name }),
                }
            }
            Ok(())
        })
    }
}
