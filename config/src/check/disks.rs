//! Disks and tables: sizes that fit blocks, tables that stand on something and not on themselves, uses that do not get in each other's way.
use super::{Checker, How, Used};
use crate::{
    names::{distance, listed, partition_of, volume_of_group},
    schema::{At, Disk, Segment, Table},
    units::Size,
};
use std::collections::BTreeSet;

impl<'a> Checker<'a> {
    fn name(&mut self, name: &'a At<String>, key: &str) {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(good) {
            let expected = "expected 1 to 128 letters, digits, `.`, `_`, `-` or `:`";
            self.wrong(name, key, format!("{:?} is not a name; {expected}", **name));
        }
        if let Some(line) = self.names.insert(name, name.line) {
            self.wrong(name, key, format!("the name {:?} is taken, by line {line}", **name));
        }
    }

    pub(super) fn disks(&mut self) {
        for (i, disk) in self.config.disks.iter().enumerate() {
            let key = |k: &str| format!("disks[{i}].{k}");
            self.name(&disk.name, &key("name"));
            let kinds = [
                disk.file.is_some(),
                disk.device.is_some(),
                disk.memory.is_some(),
                disk.void.is_some(),
            ];
            if kinds.iter().filter(|is| **is).count() != 1 {
                self.wrong(
                    &disk.name,
                    key("name"),
                    format!(
                        "disk {:?} needs exactly one of `file`, `device`, `memory` and `void`",
                        *disk.name
                    ),
                );
            }
            if let Some(size) = &disk.block_size
                && !matches!(**size, 512 | 4096)
            {
                self.wrong(
                    size,
                    key("block_size"),
                    format!("{} is not a block size; expected 512 or 4096", **size),
                );
            }
            if let (Some(create), None) = (&disk.create, &disk.file) {
                self.wrong(create, key("create"), "only a `file` can be created");
            }
            for (what, size) in [("memory", &disk.memory), ("void", &disk.void), ("create", &disk.create)] {
                let Some(size) = size else { continue };
                let block = block_size(disk);
                if size.0 == 0 || !size.0.is_multiple_of(block) {
                    self.wrong(
                        size,
                        key(what),
                        format!("{} is not a whole number of {block}-byte blocks", **size),
                    );
                }
            }
            if disk.read_only && disk.create.is_some() {
                self.wrong(
                    &disk.name,
                    key("read_only"),
                    "a disk that is read-only cannot be created",
                );
            }
        }
    }

    pub(super) fn tables(&mut self) {
        // Names first, so that tables may stand in any order.
        for (i, table) in self.config.tables.iter().enumerate() {
            self.name(&table.name, &format!("tables[{i}].name"));
        }
        for (i, table) in self.config.tables.iter().enumerate() {
            let key = |k: &str| format!("tables[{i}].{k}");
            let kinds = [
                table.linear.is_some(),
                table.stripe.is_some(),
                table.delay.is_some(),
                table.error.is_some(),
                table.stats.is_some(),
                table.crypt.is_some(),
                table.passthru.is_some(),
            ];
            if kinds.iter().filter(|is| **is).count() != 1 {
                let names = "`linear`, `stripe`, `delay`, `error`, `stats`, `crypt` and `passthru`";
                self.wrong(
                    &table.name,
                    key("name"),
                    format!("table {:?} needs exactly one of {names}", *table.name),
                );
            }
            if let Some(stripe) = &table.stripe {
                if stripe.on.len() < 2 {
                    self.wrong(&stripe.on, key("stripe.on"), "a stripe needs at least two disks");
                }
                let different: BTreeSet<&str> = stripe.on.iter().map(|on| on.as_str()).collect();
                if different.len() < stripe.on.len() {
                    self.wrong(
                        &stripe.on,
                        key("stripe.on"),
                        "a disk cannot be two members of one stripe",
                    );
                }
                let chunk = stripe.chunk.0;
                if !chunk.is_power_of_two() || !(4096..=64 << 20).contains(&chunk) {
                    self.wrong(
                        &stripe.chunk,
                        key("stripe.chunk"),
                        format!(
                            "{} is not a chunk size; expected a power of two from 4KiB to 64MiB",
                            *stripe.chunk
                        ),
                    );
                }
            }
            for (j, segment) in table.linear.iter().flatten().enumerate() {
                self.segment(segment, &format!("tables[{i}].linear[{j}]"));
            }
            if table.linear.as_ref().is_some_and(Vec::is_empty) {
                self.wrong(
                    &table.name,
                    key("linear"),
                    "expected at least one piece: `- {on: DISK, start: 0, size: 1GiB}`",
                );
            }
            if let Some(crypt) = &table.crypt {
                if crypt.key_file.is_some() == crypt.random_key.is_some() {
                    self.wrong(
                        &crypt.on,
                        key("crypt"),
                        "expected exactly one of `key_file` and `random_key`",
                    );
                }
                if let Some(bits) = &crypt.random_key
                    && !matches!(**bits, 128 | 256)
                {
                    let message = format!("{} is no length of a key; expected 128 or 256", **bits);
                    self.wrong(bits, key("crypt.random_key"), message);
                }
            }
            for (path, on, how) in below(table) {
                self.refer(on, &key(&path), Some(how), format!("table {:?}", *table.name));
            }
        }
    }

    fn segment(&mut self, segment: &Segment, key: &str) {
        // Of a disk whose block size is not known here, 512 is the least that must divide.
        let block = self
            .config
            .disks
            .iter()
            .find(|d| *d.name == *segment.on)
            .map_or(512, block_size);
        let sizes = [("start", Some(&segment.start)), ("size", segment.size.as_ref())];
        for (what, size) in sizes.into_iter().filter_map(|(what, size)| Some((what, size?))) {
            if !size.0.is_multiple_of(block) || (what == "size" && size.0 == 0) {
                self.wrong(
                    size,
                    format!("{key}.{what}"),
                    format!("{} is not a whole number of {block}-byte blocks", **size),
                );
            }
        }
        let room = self
            .config
            .disks
            .iter()
            .find(|d| *d.name == *segment.on)
            .and_then(length);
        let end = segment.start.0.checked_add(segment.size.as_ref().map_or(1, |s| s.0));
        if let Some(room) = room
            && end.is_none_or(|end| end > room)
        {
            let message = format!("reaches past the end of {:?}, which has {}", *segment.on, Size(room));
            let place = segment.size.as_ref().unwrap_or(&segment.start);
            self.wrong(place, key, message);
        }
    }

    /// A table that stands on itself could never be built.
    pub(super) fn circles(&mut self) {
        let tables = &self.config.tables;
        let mut built: BTreeSet<&str> = BTreeSet::new();
        // A name that is a disk's too is wrong already, and not for this reason.
        let disk = |name: &str| self.config.disks.iter().any(|d| *d.name == name);
        let of = |name: &str| tables.iter().position(|t| *t.name == name && !disk(name));
        let mut left: Vec<usize> = (0..tables.len()).collect();
        loop {
            let before = left.len();
            left.retain(|&i| {
                let ready = below(&tables[i])
                    .iter()
                    .all(|(_, on, _)| of(on).is_none() || built.contains(on.as_str()));
                if ready {
                    built.insert(tables[i].name.as_str());
                }
                !ready
            });
            if left.len() == before {
                break;
            }
        }
        for i in left {
            let table = &tables[i];
            let message = format!("table {:?} stands on itself, directly or through others", *table.name);
            self.wrong(&table.name, format!("tables[{i}].name"), message);
        }
    }

    /// `on` must be a disk, a table, or a partition of one.
    pub(super) fn refer(&mut self, on: &'a At<String>, key: &str, how: Option<How>, by: String) {
        if !self.known(on) {
            let near = self
                .names
                .keys()
                .map(|name| (distance(name, on), *name))
                .min()
                .filter(|(d, _)| *d <= 2);
            let hint = match near {
                Some((_, name)) => format!("did you mean {name:?}?"),
                None if self.names.is_empty() => "there are no disks".into(),
                None => format!("there are {}", listed(self.names.keys())),
            };
            self.wrong(on, key, format!("there is no disk or table {:?}; {hint}", **on));
        } else if let Some(how) = how {
            self.uses.entry(on.as_str()).or_default().push(Used {
                by,
                place: on,
                key: key.to_owned(),
                how,
            });
        }
    }

    fn known(&self, on: &str) -> bool {
        self.names.contains_key(on) || volume_of_group(on) || partition_of(on).is_some_and(|disk| self.known(disk))
    }

    /// A disk is served, or its partitions are, or tables use it, each a part of their own.
    pub(super) fn uses(&mut self) {
        let mut wrong = Vec::new();
        for (name, uses) in &self.uses {
            for (i, one) in uses.iter().enumerate() {
                let clash = uses[..i].iter().find(|other| match (other.how, one.how) {
                    (How::Served, How::Served) | (How::Partitions, How::Partitions) => false,
                    (How::Window(a, a_end), How::Window(b, b_end)) => {
                        a.max(b) < a_end.unwrap_or(u64::MAX).min(b_end.unwrap_or(u64::MAX))
                    }
                    _ => true,
                });
                if let Some(other) = clash {
                    let message = format!("{name:?} is used by {} already (line {})", other.by, other.place.line);
                    wrong.push((one.place, one.key.clone(), message));
                }
            }
            // A partition of a disk that is used in another way.
            if let (Some(disk), Some(part)) = (partition_of(name), uses.first()) {
                // Hosts may be given a partition both by name and with all the others; a table may not have it then.
                let both = |other: &&Used| other.how == How::Partitions && part.how == How::Served;
                let others = self.uses.get(disk).into_iter().flatten();
                if let Some(other) = others.into_iter().find(|other| !both(other)) {
                    let message = format!("{disk:?} itself is used by {} (line {})", other.by, other.place.line);
                    wrong.push((part.place, part.key.clone(), message));
                }
            }
        }
        for (place, key, message) in wrong {
            self.wrong(place, key, message);
        }
    }
}

/// What a table stands on, with the key of each and how much it takes.
fn below(table: &Table) -> Vec<(String, &At<String>, How)> {
    let mut all = Vec::new();
    for (i, segment) in table.linear.iter().flatten().enumerate() {
        let end = segment.size.as_ref().map(|size| segment.start.0.saturating_add(size.0));
        all.push((
            format!("linear[{i}].on"),
            &segment.on,
            How::Window(segment.start.0, end),
        ));
    }
    for (i, on) in table.stripe.iter().flat_map(|stripe| stripe.on.iter()).enumerate() {
        all.push((format!("stripe.on[{i}]"), on, How::Whole));
    }
    let single = [
        ("delay.on", table.delay.as_ref().map(|t| &t.on)),
        ("error.on", table.error.as_ref().map(|t| &t.on)),
        ("stats.on", table.stats.as_ref().map(|t| &t.on)),
        ("crypt.on", table.crypt.as_ref().map(|t| &t.on)),
        ("passthru.on", table.passthru.as_ref().map(|t| &t.on)),
    ];
    all.extend(
        single
            .into_iter()
            .filter_map(|(key, on)| Some((key.to_owned(), on?, How::Whole))),
    );
    all
}

/// The names of what a table stands on.
pub(crate) fn stands_on(table: &Table) -> Vec<&str> {
    below(table).into_iter().map(|(_, on, _)| on.as_str()).collect()
}

/// The block size of a disk as far as the file tells: 512 if it does not.
fn block_size(disk: &Disk) -> u64 {
    disk.block_size.as_ref().map_or(512, |size| u64::from(**size).max(1))
}

/// The length of a disk in bytes, if the file tells. A file that is there may be longer than `create` says.
fn length(disk: &Disk) -> Option<u64> {
    disk.memory.as_ref().or(disk.void.as_ref()).map(|size| size.0)
}
