//! A group as it is on its disks, to be changed: the text as a tree that keeps everything, and every label and area it goes back to.
//!
//! A change is committed by LVM2's own rule (`_vg_write_raw`, `_vg_commit_raw` in `lib/format_text/format-text.c`): the new text goes to free space of
//! every ring; behind a barrier one sector of each area, the header, is made to point at it. The highest sequence number counts wherever it lies, so
//! the first header that lands makes the change and none of the others is needed for it.
//!
//! A disk that leaves loses its text before the others commit: until then it is a member without a text of its own. Marks in the labels (`USED`) are
//! cleared first and set last, for LVM2 mends one that is missing and does not believe one that is too many.
use super::{edit::words, text};
use crate::{
    group::{Group, GroupState},
    plan::{Code, Draft, Facts, Refusal, Undo, verb::Request},
};
use spec::lvm2::{
    Area, Id, SECTOR,
    label::{self, Label},
    mda::{self, Header, Location},
    text::{Data, Section},
    vg::{Shape, VolumeGroup, WRITE_LOCKED, has},
};
use std::{collections::BTreeSet, sync::Arc};

/// A physical volume, to be written to.
#[derive(Clone, Debug)]
pub struct Pv {
    /// Its disk.
    pub disk: Arc<Facts>,
    /// Its label.
    pub label: Label,
    /// Its areas that are sound and in use.
    pub areas: Vec<Header>,
    /// Areas that are set aside or damaged.
    pub idle: usize,
}

impl Pv {
    /// Reads the label and the headers of the areas of a disk that discovery takes for a physical volume.
    pub async fn read(draft: &mut Draft<'_>, disk: &str) -> Result<Self, Refusal> {
        let facts = draft.facts(disk)?;
        let none = || {
            Refusal::new(
                Code::WrongKind,
                format!("{disk:?} is no LVM2 physical volume: it {}", facts.reason),
            )
            .but("`pv-create` makes it one")
        };
        if facts.format != Some("lvm2") {
            return Err(none());
        }
        let head = draft
            .read(&facts.name, 0, (label::SCAN * SECTOR).min(facts.bytes()))
            .await?;
        let label = match Label::find(&head) {
            Ok(Some(label)) => label,
            Ok(None) => return Err(none()),
            Err(why) => return Err(Refusal::new(Code::Damaged, format!("{disk:?}: {why}"))),
        };
        let (mut areas, mut idle) = (Vec::new(), 0);
        for area in &label.metadata {
            let sector = draft.read(&facts.name, area.offset, mda::HEADER).await?;
            match Header::parse(&sector, area.offset) {
                Ok(header) if !header.is_ignored() && header.pieces(header.committed).is_ok() => areas.push(header),
                _ => idle += 1,
            }
        }
        Ok(Self {
            disk: facts,
            label,
            areas,
            idle,
        })
    }

    /// The newest text on it.
    pub(super) async fn text(&self, draft: &mut Draft<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        let mut newest: Option<(u64, Vec<u8>)> = None;
        for header in &self.areas {
            let Ok(Some(pieces)) = header.pieces(header.committed) else {
                continue;
            };
            // As LVM2 does: a text that the header describes as one that is known is that one, and is not read again.
            let known = text::known(header.committed);
            let text = match known.as_ref().and_then(|text| text.tree.source()) {
                Some(source) => {
                    draft.saw(source);
                    source.to_vec()
                }
                None => {
                    let mut text = Vec::new();
                    for piece in pieces.iter().filter(|piece| piece.size > 0) {
                        text.extend(draft.read(&self.disk.name, piece.offset, piece.size).await?);
                    }
                    text
                }
            };
            if Header::check(header.committed, &text).is_err() {
                continue;
            }
            if self.areas.len() == 1 {
                return Ok(Some(text));
            }
            if let Ok(read) = text::read(&text, header.committed.checksum)
                && newest.as_ref().is_none_or(|(seqno, _)| *seqno < read.vg.seqno)
            {
                newest = Some((read.vg.seqno, text));
            }
        }
        Ok(newest.map(|(_, text)| text))
    }

    /// First sector that extents may have.
    pub fn data_start(&self) -> u64 {
        self.label.data.first().map_or(0, |area| area.offset) / SECTOR
    }

    /// One past the last sector that extents may have: an area at the end is behind them.
    pub fn data_end(&self) -> u64 {
        let start = self.data_start();
        let behind = self.label.metadata.iter().map(|area| area.offset / SECTOR);
        behind
            .filter(|at| *at >= start)
            .min()
            .unwrap_or(self.label.device_size / SECTOR)
    }
}

/// A group, read to be changed.
#[derive(Clone, Debug)]
pub struct Whole {
    /// As discovery has it.
    pub seen: Group,
    /// Its text.
    pub tree: Section,
    /// What that says.
    pub vg: VolumeGroup,
    /// The tree that it was read from.
    read: Section,
    /// Its physical volumes that are there, in the text's order.
    pub pvs: Vec<Pv>,
    /// The text as it is.
    text: Vec<u8>,
    /// Physical volumes that leave.
    leaving: Vec<Pv>,
}

/// The one group of this name or identity.
pub fn find(draft: &Draft<'_>, name: &str) -> Result<Group, Refusal> {
    let mut groups = draft.disks.groups_called(name);
    groups.retain(|group| group.format == "lvm2");
    let missing =
        || Refusal::new(Code::NotFound, format!("there is no volume group {name:?}")).but("`ashlar vg ls` lists them");
    let group = groups.pop().ok_or_else(missing)?;
    match groups.is_empty() {
        true => Ok(group),
        false => Err(
            Refusal::new(Code::Ambiguous, format!("several volume groups are called {name:?}"))
                .but("name one by its identity"),
        ),
    }
}

impl Whole {
    /// Reads the group of this name or identity. Refused if it is not ours to change, or not all of it is there.
    pub async fn read(draft: &mut Draft<'_>, name: &str) -> Result<Self, Refusal> {
        Self::read_if(draft, name, &[GroupState::Complete]).await
    }

    /// Reads the group of this name or identity, if it is as said. What may be done to a group that is not complete is for the caller to know.
    pub async fn read_if(draft: &mut Draft<'_>, name: &str, states: &[GroupState]) -> Result<Self, Refusal> {
        let seen = find(draft, name)?;
        let no = |code| {
            Err(Refusal::new(
                code,
                format!("the volume group {:?} {}", seen.name, seen.reason),
            ))
        };
        match seen.state {
            state if states.contains(&state) => {}
            GroupState::Complete => return no(Code::Nothing),
            GroupState::Partial | GroupState::Waiting => return no(Code::Incomplete),
            GroupState::Foreign => return no(Code::Foreign),
            GroupState::Ambiguous => return no(Code::Ambiguous),
        }
        let mut pvs = Vec::new();
        for seat in &seen.members {
            if let Some(disk) = &seat.disk {
                pvs.push(Pv::read(draft, disk).await?);
            }
        }
        let mut best: Option<(Vec<u8>, Arc<text::Text>)> = None;
        for pv in &pvs {
            let Some(bytes) = pv.text(draft).await? else { continue };
            if best.as_ref().is_some_and(|(have, _)| *have == bytes) {
                continue;
            }
            let checksum = spec::lvm2::crc(spec::lvm2::CRC_SEED, &bytes);
            let Ok(text) = text::read(&bytes, checksum) else {
                continue;
            };
            if best.as_ref().is_none_or(|(_, have)| have.vg.seqno < text.vg.seqno) && text.vg.id.to_string() == seen.id
            {
                best = Some((bytes, text));
            }
        }
        match best {
            Some((bytes, text)) if text.vg.seqno == seen.seqno => Ok(Self {
                seen,
                tree: text.tree.clone(),
                vg: text.vg.clone(),
                read: text.tree.clone(),
                pvs,
                text: bytes,
                leaving: Vec::new(),
            }),
            _ => Err(Refusal::new(
                Code::Damaged,
                format!("no sound text of the volume group {:?} can be read", seen.name),
            )),
        }
    }

    /// The group that a text tells of, on these copies of its physical volumes. Nothing of it is archived: the group itself is elsewhere.
    pub fn of_copies(text: &text::Text, pvs: Vec<Pv>) -> Self {
        Self {
            seen: unseen(&text.vg.name, text.vg.id, text.vg.extent_size),
            tree: text.tree.clone(),
            vg: text.vg.clone(),
            read: text.tree.clone(),
            pvs,
            text: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// A new group on these physical volumes, with a text that has none of them yet.
    pub fn new(name: &str, id: Id, extent_size: u64) -> Result<Self, Refusal> {
        let mut group = Section::default();
        let text = |text: &str| Data::Text(text.to_owned());
        let words = |words: &[&str]| Data::List(words.iter().map(|word| text(word)).collect());
        group.set("id", text(&id.to_string()));
        group.set("seqno", Data::Integer(0));
        group.set("format", text("lvm2"));
        group.set("status", words(&["RESIZEABLE", "READ", "WRITE"]));
        group.set("flags", Data::List(Vec::new()));
        group.set("extent_size", Data::Integer(extent_size as i64));
        for limit in ["max_lv", "max_pv", "metadata_copies"] {
            group.set(limit, Data::Integer(0));
        }
        group.add("physical_volumes", Section::default());
        let mut tree = Section::default();
        tree.add(name, group);
        tree.set("contents", text("Text Format Volume Group"));
        tree.set("version", Data::Integer(1));
        let vg = VolumeGroup::of(&tree).map_err(|why| Refusal::new(Code::BadName, why.to_string()))?;
        Ok(Self {
            seen: unseen(name, id, extent_size),
            read: tree.clone(),
            tree,
            vg,
            pvs: Vec::new(),
            text: Vec::new(),
            leaving: Vec::new(),
        })
    }

    /// The section of the group.
    pub fn group(&mut self) -> Result<&mut Section, Refusal> {
        let name = self.vg.name.clone();
        section(&mut self.tree, &name)
    }

    /// The section of all volumes; it is made if there is none.
    pub fn volumes(&mut self) -> Result<&mut Section, Refusal> {
        let group = self.group()?;
        if group.section("logical_volumes").is_none() {
            group.add("logical_volumes", Section::default());
        }
        section(group, "logical_volumes")
    }

    /// Takes a volume away. LVM2 writes no section without a volume in it.
    pub fn remove_volume(&mut self, name: &str) -> Result<(), Refusal> {
        self.volumes()?.remove(name);
        if self.volumes()?.items().is_empty() {
            self.group()?.remove("logical_volumes");
        }
        Ok(())
    }

    /// Takes a physical volume out of the text that is not there.
    pub fn forget(&mut self, word: &str) -> Result<(), Refusal> {
        section(self.group()?, "physical_volumes")?.remove(word);
        self.refresh()
    }

    /// Gives the group to a host by its system id, or to nobody.
    pub fn own(&mut self, host: Option<&str>) -> Result<(), Refusal> {
        match host {
            Some(host) => self.group()?.set("system_id", Data::Text(host.to_owned())),
            None => {
                self.group()?.remove("system_id");
            }
        }
        self.refresh()?;
        self.lock()
    }

    /// Says who may write as LVM2 says it: another way where a group is a host's, so that one of before there was that leaves it alone.
    fn lock(&mut self) -> Result<(), Refusal> {
        let (write, locked) = (["WRITE".to_owned()], [WRITE_LOCKED.to_owned()]);
        let owned = self.vg.system_id.is_some() || self.vg.lock_type.is_some();
        let other = |status: &[String], flags: &[String]| match owned {
            true => has(status, "WRITE"),
            false => has(flags, WRITE_LOCKED),
        };
        let turn = |section: &mut Section| match owned {
            true => {
                words(section, "status", &[], &write);
                words(section, "flags", &locked, &[]);
            }
            false => {
                words(section, "flags", &[], &locked);
                words(section, "status", &write, &[]);
            }
        };
        let group = other(&self.vg.status, &self.vg.flags);
        let volumes = self.vg.logical.iter().filter(|lv| other(&lv.status, &lv.flags));
        let volumes: Vec<String> = volumes.map(|lv| lv.name.clone()).collect();
        if !group && volumes.is_empty() {
            return Ok(());
        }
        if group {
            turn(self.group()?);
        }
        for name in &volumes {
            turn(self.volume(name)?);
        }
        self.refresh()
    }

    /// The section of a volume.
    pub fn volume(&mut self, name: &str) -> Result<&mut Section, Refusal> {
        section(self.volumes()?, name)
    }

    /// The section of a physical volume, by the group's word for it.
    pub fn physical(&mut self, word: &str) -> Result<&mut Section, Refusal> {
        section(section(self.group()?, "physical_volumes")?, word)
    }

    /// Reads the tree again after a change of it.
    pub fn refresh(&mut self) -> Result<(), Refusal> {
        // A change of ours that makes no group is a mistake of ours, found before it is on a disk.
        let vg = VolumeGroup::like(&self.tree, Some((&self.read, &self.vg)));
        self.vg = vg.map_err(|why| {
            Refusal::new(
                Code::Unsupported,
                format!("the change would make a group that cannot be read: {why}"),
            )
        })?;
        self.read = self.tree.clone();
        Ok(())
    }

    /// The group's word for the physical volume of this identity.
    pub fn word(&self, id: Id) -> Option<&str> {
        self.vg
            .physical
            .iter()
            .find(|pv| pv.id == id)
            .map(|pv| pv.name.as_str())
    }

    /// The physical volume on this disk.
    pub fn on(&self, disk: &str) -> Option<&Pv> {
        self.pvs.iter().find(|pv| pv.disk.name == disk)
    }

    /// Takes a physical volume in that is in no group.
    pub fn join(&mut self, pv: Pv) -> Result<(), Refusal> {
        let extent_size = self.vg.extent_size;
        let (start, end) = (pv.data_start(), pv.data_end());
        let count = end.saturating_sub(start) / extent_size;
        if count == 0 {
            let why = format!(
                "{:?} has no room for an extent of {} bytes",
                pv.disk.name,
                extent_size * SECTOR
            );
            return Err(Refusal::new(Code::NoSpace, why));
        }
        let block = u64::from(pv.disk.block_size);
        if let Some(other) = self.pvs.iter().find(|other| u64::from(other.disk.block_size) != block) {
            let why = format!(
                "{:?} has blocks of {block} bytes, {:?} of {}: a volume on both could not be served",
                pv.disk.name, other.disk.name, other.disk.block_size
            );
            return Err(Refusal::new(Code::Unsupported, why));
        }
        let used: BTreeSet<&str> = self.vg.physical.iter().map(|pv| pv.name.as_str()).collect();
        let word = (0..)
            .map(|n| format!("pv{n}"))
            .find(|word| !used.contains(word.as_str()))
            .unwrap_or_default();
        let mut section = Section::default();
        section.set("id", Data::Text(pv.label.id.to_string()));
        section.set("device", Data::Text(pv.disk.name.clone()));
        section.set("status", Data::List(vec![Data::Text("ALLOCATABLE".into())]));
        section.set("flags", Data::List(Vec::new()));
        section.set("dev_size", Data::Integer((pv.label.device_size / SECTOR) as i64));
        section.set("pe_start", Data::Integer(start as i64));
        section.set("pe_count", Data::Integer(count as i64));
        let all = self.group()?;
        self::section(all, "physical_volumes")?.add(&word, section);
        self.pvs.push(pv);
        self.refresh()
    }

    /// Lets a physical volume go on which nothing is.
    pub fn leave(&mut self, disk: &str) -> Result<(), Refusal> {
        let at = self.pvs.iter().position(|pv| pv.disk.name == disk);
        let at = at.ok_or_else(|| {
            Refusal::new(
                Code::NotFound,
                format!("{disk:?} is no member of the volume group {:?}", self.vg.name),
            )
        })?;
        let word = self.word(self.pvs[at].label.id).unwrap_or_default().to_owned();
        section(self.group()?, "physical_volumes")?.remove(&word);
        let gone = self.pvs.remove(at);
        self.leaving.push(gone);
        self.refresh()
    }

    /// Goes on from another text of the group.
    pub fn become_again(&mut self, tree: Section, vg: VolumeGroup) {
        self.read = tree.clone();
        (self.tree, self.vg) = (tree, vg);
    }

    /// The text as it is now is of a change half-way: nobody is to restore it.
    pub fn forget_text(&mut self) {
        self.text.clear();
    }

    /// Physical volumes that leave, without their texts being taken: another group has them.
    pub fn let_go(&mut self) -> Vec<Pv> {
        std::mem::take(&mut self.leaving)
    }

    /// Writes the changed tree as the next change of the group.
    pub async fn commit(&mut self, draft: &mut Draft<'_>, what: &str) -> Result<(), Refusal> {
        let text = self.seal(draft, what)?;
        self.prepare(draft, &text).await?;
        self.point(draft, &text).await
    }

    /// The changed tree as the next text, checked once more.
    pub fn seal(&mut self, draft: &mut Draft<'_>, what: &str) -> Result<Vec<u8>, Refusal> {
        let (stamp, seqno) = (draft.stamp().clone(), self.vg.seqno + 1);
        self.group()?.set("seqno", Data::Integer(seqno as i64));
        self.tree
            .set("description", Data::Text(format!("Written by Ashlar: {what}")));
        self.tree.set("creation_host", Data::Text(stamp.host));
        self.tree.set("creation_time", Data::Integer(stamp.time as i64));
        self.refresh()?;
        self.lock()?;
        check(&self.vg)?;
        if !self.text.is_empty() {
            let old = self.text.clone();
            draft.archive(&self.seen.name, self.seen.seqno, old);
            let back = Request::new("vg-restore", &self.vg.name).with("change", self.seen.seqno);
            draft.undo(Undo::Request(back.with("group", self.seen.name.clone())));
        }
        let mut text = self.tree.to_bytes();
        // LVM2 looks for the group's name in the very first bytes.
        let blank = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        text.drain(..blank);
        // As LVM2 ends a text.
        while text.last().is_some_and(|byte| matches!(byte, 0 | b'\n' | b' ')) {
            text.pop();
        }
        text.extend(b"\n\0");
        if text.len() as u64 > mda::TEXT_MAX {
            return Err(Refusal::new(
                Code::NoSpace,
                format!("the group's text would have {} bytes", text.len()),
            ));
        }
        Ok(text)
    }

    /// First half: the text to free space of every ring.
    pub async fn prepare(&mut self, draft: &mut Draft<'_>, text: &[u8]) -> Result<(), Refusal> {
        let size = text.len() as u64;
        let current = self
            .pvs
            .iter()
            .any(|pv| pv.areas.iter().any(|area| area.committed.offset != 0));
        for pv in &self.leaving {
            if !current && !self.text.is_empty() {
                let why = format!("{:?} has the only sound text of the group", pv.disk.name);
                return Err(Refusal::new(Code::Incomplete, why).but("give another member a metadata area first"));
            }
            mark(draft, pv, false).await?;
        }
        let mut room = 0;
        for pv in &mut self.pvs {
            for header in &mut pv.areas {
                let next = header.next(size).ok_or_else(|| {
                    let why = format!(
                        "the metadata area of {} bytes at byte {} of {:?} has no room for {size} more beside the text it has",
                        header.area.size, header.area.offset, pv.disk.name
                    );
                    Refusal::new(Code::NoSpace, why).but("members with larger areas (`pv-create metadata_size=…`) take more volumes")
                })?;
                header.prepared = Location {
                    offset: next,
                    size,
                    checksum: spec::lvm2::crc(spec::lvm2::CRC_SEED, text),
                    flags: 0,
                };
                let [first, rest] = pieces(header, header.prepared)?;
                let (front, back) = text.split_at(first.size as usize);
                put(draft, &pv.disk.name, first, front, &self.vg).await?;
                put(draft, &pv.disk.name, rest, back, &self.vg).await?;
                room += 1;
            }
        }
        if room == 0 {
            let why = format!(
                "no member of the volume group {:?} has a metadata area in use",
                self.vg.name
            );
            return Err(Refusal::new(Code::Incomplete, why));
        }
        draft.barrier("write the new text beside the old one");
        for pv in &self.leaving {
            for header in &pv.areas {
                let mut empty = header.clone();
                empty.committed = Location::default();
                empty.prepared = Location::default();
                let what = "header of the metadata area: no text";
                draft
                    .put(&pv.disk.name, header.area.offset, &empty.to_bytes(), what)
                    .await?;
            }
        }
        draft.barrier("take the text from what leaves the group");
        Ok(())
    }

    /// Second half: every header points at it.
    pub async fn point(&mut self, draft: &mut Draft<'_>, text: &[u8]) -> Result<(), Refusal> {
        let (name, seqno) = (self.vg.name.clone(), self.vg.seqno);
        for pv in &mut self.pvs {
            for header in &mut pv.areas {
                header.committed = std::mem::take(&mut header.prepared);
                let what = format!("header of the metadata area: {name} is at change {seqno}");
                draft
                    .put(&pv.disk.name, header.area.offset, &header.to_bytes(), &what)
                    .await?;
            }
        }
        draft.barrier(&format!("commit change {seqno} of {name}"));
        for pv in &self.pvs {
            mark(draft, pv, true).await?;
        }
        draft.barrier("mark the members as used");
        self.text = text.to_vec();
        self.seen.seqno = seqno;
        self.seen.name = name;
        self.leaving.clear();
        Ok(())
    }

    /// Takes the text away from every member: the group is no more.
    pub async fn dissolve(&mut self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        draft.archive(&self.vg.name, self.vg.seqno, self.text.clone());
        for pv in &self.pvs {
            mark(draft, pv, false).await?;
        }
        draft.barrier("mark the members as free");
        for pv in &self.pvs {
            for header in &pv.areas {
                let mut empty = header.clone();
                empty.committed = Location::default();
                empty.prepared = Location::default();
                let what = "header of the metadata area: no text";
                draft
                    .put(&pv.disk.name, header.area.offset, &empty.to_bytes(), what)
                    .await?;
            }
        }
        draft.barrier("take the text away");
        Ok(())
    }
}

/// A group that nobody has seen yet.
fn unseen(name: &str, id: Id, extent_size: u64) -> Group {
    Group {
        name: name.to_owned(),
        format: "lvm2".into(),
        id: id.to_string(),
        state: GroupState::Complete,
        reason: String::new(),
        seqno: 0,
        extent_bytes: extent_size * SECTOR,
        status: Vec::new(),
        allocation: None,
        system_id: None,
        tags: Vec::new(),
        members: Vec::new(),
        volumes: Vec::new(),
        notes: Vec::new(),
        basis: None,
    }
}

/// A section that is known to be there.
pub fn section<'a>(of: &'a mut Section, name: &str) -> Result<&'a mut Section, Refusal> {
    let found = of.get_mut(name).and_then(|item| item.section_mut());
    found.ok_or_else(|| Refusal::new(Code::NotFound, format!("the group's text has no section {name:?}")))
}

async fn put(draft: &mut Draft<'_>, disk: &str, at: Area, bytes: &[u8], vg: &VolumeGroup) -> Result<(), Refusal> {
    match bytes.is_empty() {
        true => Ok(()),
        false => {
            let what = format!("text of {}, change {}", vg.name, vg.seqno);
            draft.put(disk, at.offset, bytes, &what).await
        }
    }
}

fn pieces(header: &Header, text: Location) -> Result<[Area; 2], Refusal> {
    match header.pieces(text) {
        Ok(Some(pieces)) => Ok(pieces),
        Ok(None) => Err(Refusal::new(Code::NoSpace, "the metadata area has no room")),
        Err(why) => Err(Refusal::new(Code::NoSpace, why.to_string())),
    }
}

/// Sets or clears the mark that some group uses it. A header of before there were marks has none.
async fn mark(draft: &mut Draft<'_>, pv: &Pv, used: bool) -> Result<(), Refusal> {
    let mut label = pv.label.clone();
    if label.extension.version < 2 {
        return Ok(());
    }
    label.extension.flags = match used {
        true => label.extension.flags | label::USED,
        false => label.extension.flags & !label::USED,
    };
    let what = if used {
        "label: used by a group"
    } else {
        "label: used by no group"
    };
    write_label(draft, &pv.disk.name, &label, what).await
}

/// Writes a label to its sector.
pub async fn write_label(draft: &mut Draft<'_>, disk: &str, label: &Label, what: &str) -> Result<(), Refusal> {
    let bytes = label.to_bytes();
    let bytes = bytes.ok_or_else(|| Refusal::new(Code::NoSpace, "the label has no room for its areas"))?;
    draft.put(disk, label.sector * SECTOR, &bytes, what).await
}

/// What must hold of every group we write: no extent twice, none outside.
fn check(vg: &VolumeGroup) -> Result<(), Refusal> {
    let wrong = |why: String| {
        Err(Refusal::new(
            Code::Unsupported,
            format!("the change would damage the group: {why}"),
        ))
    };
    if let Some((a, b)) = vg.overlaps().first() {
        return wrong(format!("{a:?} and {b:?} would have the same extents"));
    }
    for lv in &vg.logical {
        for segment in &lv.segments {
            let Shape::Striped { stripes, .. } = &segment.shape else {
                continue;
            };
            let each = segment.count / stripes.len().max(1) as u64;
            for stripe in stripes {
                if let Some(pv) = vg.physical.iter().find(|pv| pv.name == stripe.on)
                    && stripe.extent + each > pv.pe_count
                {
                    return wrong(format!("{:?} would reach past the end of {}", lv.name, stripe.on));
                }
            }
        }
    }
    Ok(())
}
