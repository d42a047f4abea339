//! What a schema cannot express: names that lead somewhere, sizes that fit blocks, uses that do not get in each other's way.
//!
//! Works on the file alone, without looking at any disk, so it says the same on every machine.
use crate::{
    error::Problem,
    schema::{At, Config, Disk, Protocol, Segment, Table},
    units::Size,
};
use std::collections::{BTreeMap, BTreeSet};
use target::nvmf::{DupHostPolicy, SubsystemConfig};

/// Everything that is wrong with a configuration, in the order of the file. Empty if it can be applied.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut checker = Checker {
        config,
        problems: Vec::new(),
        names: BTreeMap::new(),
        uses: BTreeMap::new(),
    };
    checker.reactors();
    checker.lvm2();
    checker.discovery();
    checker.audit();
    checker.problems.extend(crate::arrays::check(&config.arrays));
    checker.disks();
    checker.tables();
    checker.circles();
    checker.volumes();
    checker.iscsi();
    checker.nvme();
    checker.uses();
    let mut problems = checker.problems;
    problems.sort_by_key(|p| (p.line, p.column));
    problems
}

/// How a disk is used, and by whom.
struct Used<'a> {
    by: String,
    place: &'a At<String>,
    key: String,
    how: How,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// By hosts, whole.
    Served,
    /// By hosts, its partitions.
    Partitions,
    /// By a table, whole.
    Whole,
    /// By a table, these bytes; the end may be unknown.
    Window(u64, Option<u64>),
}

struct Checker<'a> {
    config: &'a Config,
    problems: Vec<Problem>,
    /// Disks and tables, with the line of each.
    names: BTreeMap<&'a str, u64>,
    uses: BTreeMap<&'a str, Vec<Used<'a>>>,
}

impl<'a> Checker<'a> {
    fn wrong<T>(&mut self, at: &At<T>, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            line: at.line,
            column: at.column,
            key: key.into(),
            message: message.into(),
        });
    }

    fn lvm2(&mut self) {
        if let Some(id) = &self.config.lvm2.system_id
            && !spec::lvm2::vg::is_system_id(id)
        {
            self.wrong(
                id,
                "lvm2.system_id",
                format!(
                    "{:?} is no system id; expected letters, digits and _ . - with a letter or digit in front",
                    **id
                ),
            );
        }
    }

    fn discovery(&mut self) {
        let wanted = &self.config.discovery;
        for (key, list) in [("include", wanted.include.as_ref()), ("exclude", Some(&wanted.exclude))] {
            for (i, text) in list.into_iter().flatten().enumerate() {
                if let Err(why) = lvol::scope::Glob::new(text) {
                    self.wrong(text, format!("discovery.{key}[{i}]"), why);
                }
            }
        }
    }

    fn audit(&mut self) {
        let Some(limit) = &self.config.audit.limit else { return };
        if self.config.audit.file.is_none() {
            self.wrong(limit, "audit.limit", "there is no `file` that it could be the limit of");
        } else if limit.0 < 64 << 10 {
            self.wrong(
                limit,
                "audit.limit",
                format!("{} is too little; expected at least 64KiB", **limit),
            );
        }
    }

    fn reactors(&mut self) {
        let r = &self.config.reactors;
        if let (Some(count), Some(_)) = (&r.count, &r.cores) {
            self.wrong(
                count,
                "reactors.count",
                "`cores` says how many already; expected one of the two",
            );
        }
        if let Some(count) = &r.count
            && !(1..=256).contains(&**count)
        {
            self.wrong(
                count,
                "reactors.count",
                format!("{} reactors; expected 1 to 256", **count),
            );
        }
        if let Some(cores) = &r.cores {
            let unique: BTreeSet<_> = cores.iter().collect();
            if cores.is_empty() || unique.len() < cores.len() {
                self.wrong(
                    cores,
                    "reactors.cores",
                    "expected a list of different core numbers, at least one",
                );
            }
        }
        if let Some(memory) = &r.memory
            && memory.0 < 16 << 20
        {
            self.wrong(
                memory,
                "reactors.memory",
                format!("{} is too little; expected at least 16MiB", **memory),
            );
        }
    }

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

    fn disks(&mut self) {
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

    fn tables(&mut self) {
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
    fn circles(&mut self) {
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
    fn refer(&mut self, on: &'a At<String>, key: &str, how: Option<How>, by: String) {
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

    fn volumes(&mut self) {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for (i, volume) in self.config.volumes.iter().enumerate() {
            let key = |k: &str| format!("volumes[{i}].{k}");
            if let Some(group) = &volume.lvs_of {
                let alone = volume.name.is_none() && volume.on.is_none() && volume.partitions_of.is_none();
                if !alone {
                    let message = "stands alone: volumes are named after their group";
                    self.wrong(group, key("lvs_of"), message);
                }
                if !spec::lvm2::vg::is_name(group) {
                    let message = format!(
                        "{:?} is not the name of a volume group; expected letters, digits and `+_.-`",
                        **group
                    );
                    self.wrong(group, key("lvs_of"), message);
                }
                self.protocols(volume, &key("over"));
                continue;
            }
            match (&volume.name, &volume.on, &volume.partitions_of) {
                (_, Some(on), None) => {
                    let mut named = At::from(volume_name(on));
                    (named.line, named.column) = (on.line, on.column);
                    let name = volume.name.as_ref().unwrap_or(&named);
                    self.refer(on, &key("on"), Some(How::Served), format!("volume {:?}", **name));
                    self.unique_volume(name, &key("name"), &mut seen);
                }
                // A name that is that of a disk or table needs no `on`.
                (Some(name), None, None) => {
                    self.refer(name, &key("name"), Some(How::Served), format!("volume {:?}", **name));
                    self.unique_volume(name, &key("name"), &mut seen);
                }
                (None, None, Some(disk)) => {
                    self.refer(
                        disk,
                        &key("partitions_of"),
                        Some(How::Partitions),
                        "its partitions".into(),
                    );
                }
                (_, _, Some(disk)) => {
                    self.wrong(
                        disk,
                        key("partitions_of"),
                        "stands alone: partitions are named after their disk",
                    );
                }
                (None, None, None) => self.problems.push(Problem {
                    line: 0,
                    column: 0,
                    key: format!("volumes[{i}]"),
                    message: "a volume needs `on`, `partitions_of` or `lvs_of`".into(),
                }),
            }
            self.protocols(volume, &key("over"));
        }
    }

    fn protocols(&mut self, volume: &crate::schema::Volume, key: &str) {
        let both = volume.over.len() == 2 && volume.over[0] == volume.over[1];
        if volume.over.is_empty() || volume.over.len() > 2 || both {
            let place = volume
                .on
                .as_ref()
                .or(volume.name.as_ref())
                .or(volume.partitions_of.as_ref())
                .or(volume.lvs_of.as_ref());
            let message = "expected `over: [iscsi]`, `over: [nvme]` or both";
            self.wrong(place.unwrap_or(&At::default()), key, message);
        }
    }

    fn unique_volume(&mut self, name: &At<String>, key: &str, seen: &mut BTreeMap<String, u64>) {
        // Hosts see it in an IQN, and those are compared in lower case.
        let good = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(good) {
            let expected = "expected 1 to 128 letters, digits, `.`, `_`, `-` or `:`";
            self.wrong(name, key, format!("{:?} is not a name; {expected}", **name));
        }
        if let Some(line) = seen.insert(iqn(name), name.line) {
            self.wrong(
                name,
                key,
                format!("a volume of the name {:?} is in line {line} already", **name),
            );
        }
    }

    fn iscsi(&mut self) {
        let iscsi = &self.config.targets.iscsi;
        let groups = self.auth_groups();
        self.auth(&iscsi.discovery_auth, "targets.iscsi.discovery_auth", &groups);
        if let Some(list) = iscsi.chap_algorithms.as_ref().filter(|list| list.is_empty()) {
            let message = "expected at least one of md5, sha1, sha256 and sha3-256";
            self.wrong(list, "targets.iscsi.chap_algorithms", message);
        }
        if let Some(most) = iscsi
            .max_sessions
            .as_ref()
            .filter(|most| !(1..=65535).contains(&***most))
        {
            let message = format!("{} sessions; expected 1 to 65535", **most);
            self.wrong(most, "targets.iscsi.max_sessions", message);
        }
        let mut tags = BTreeSet::from([1]);
        for (i, group) in iscsi.portal_groups.iter().enumerate() {
            let key = format!("targets.iscsi.portal_groups[{i}]");
            if *group.tag == 0 || !tags.insert(*group.tag) {
                let message = format!("portal group {} is taken; expected a number from 2", *group.tag);
                self.wrong(&group.tag, format!("{key}.tag"), message);
            }
            self.auth(&group.discovery_auth, &format!("{key}.discovery_auth"), &groups);
        }
        let mut names: BTreeMap<String, u64> = BTreeMap::new();
        for (i, node) in iscsi.nodes.iter().enumerate() {
            let key = |k: &str| format!("targets.iscsi.nodes[{i}].{k}");
            let prefix = ["iqn.", "eui.", "naa."].iter().any(|p| node.name.starts_with(p));
            if !prefix
                || node.name.len() > 223
                || node.name.chars().any(|c| c.is_whitespace() || c.is_ascii_uppercase())
            {
                let message = format!(
                    "{:?} is not an iSCSI name; expected one like iqn.2026-11.io.ashlar:disk",
                    *node.name
                );
                self.wrong(&node.name, key("name"), message);
            }
            if let Some(line) = names.insert(node.name.to_string(), node.name.line) {
                self.wrong(
                    &node.name,
                    key("name"),
                    format!("the target {:?} is in line {line} already", *node.name),
                );
            }
            let mut luns = BTreeSet::new();
            for (j, lun) in node.luns.iter().enumerate() {
                let key = format!("targets.iscsi.nodes[{i}].luns[{j}]");
                if *lun.lun > 255 || !luns.insert(*lun.lun) {
                    let message = format!(
                        "LUN {} is taken or too large; expected different numbers from 0 to 255",
                        *lun.lun
                    );
                    self.wrong(&lun.lun, format!("{key}.lun"), message);
                }
                if let Err(bad) = lun.options.check() {
                    self.wrong(&lun.lun, format!("{key}.{}", bad.what), bad.why);
                }
                self.refer(
                    &lun.volume,
                    &format!("{key}.volume"),
                    Some(How::Served),
                    format!("target {:?}", *node.name),
                );
            }
            for (j, access) in node.access.iter().flatten().enumerate() {
                if !tags.contains(&*access.portal_group) {
                    let message = format!("there is no portal group {}", *access.portal_group);
                    self.wrong(&access.portal_group, key(&format!("access[{j}].portal_group")), message);
                }
            }
            self.auth(&node.auth, &key("auth"), &groups);
            let reached = |tag: u32| {
                tags.contains(&tag)
                    && node
                        .access
                        .as_ref()
                        .is_none_or(|ways| ways.iter().any(|way| *way.portal_group == tag))
            };
            for (j, alua) in node.alua.iter().enumerate() {
                if !reached(*alua.portal_group) {
                    let message = format!(
                        "hosts do not come through portal group {}; expected one of `access`",
                        *alua.portal_group
                    );
                    self.wrong(&alua.portal_group, key(&format!("alua[{j}].portal_group")), message);
                }
            }
            for (j, redirect) in node.redirect.iter().enumerate() {
                if !reached(*redirect.portal_group) {
                    let message = format!(
                        "hosts do not come through portal group {}; expected one of `access`",
                        *redirect.portal_group
                    );
                    self.wrong(
                        &redirect.portal_group,
                        key(&format!("redirect[{j}].portal_group")),
                        message,
                    );
                }
            }
        }
    }

    /// The groups' tags; users come once in each.
    fn auth_groups(&mut self) -> BTreeSet<u32> {
        let mut tags = BTreeSet::new();
        for (i, group) in self.config.targets.iscsi.auth_groups.iter().enumerate() {
            let key = format!("targets.iscsi.auth_groups[{i}]");
            if *group.tag == 0 || !tags.insert(*group.tag) {
                let message = format!("auth group {} is taken; expected different numbers from 1", *group.tag);
                self.wrong(&group.tag, format!("{key}.tag"), message);
            }
            let mut users = BTreeSet::new();
            for (j, user) in group.users.iter().enumerate() {
                let key = format!("{key}.users[{j}].user");
                let names = [Some(&user.user), user.mutual.as_ref().map(|mutual| &mutual.user)];
                for name in names.into_iter().flatten() {
                    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                        self.wrong(name, key.as_str(), "expected a name of 1 to 255 bytes");
                    }
                }
                if !users.insert(user.user.as_str()) {
                    let message = format!("user {:?} is in this group already", *user.user);
                    self.wrong(&user.user, key, message);
                }
            }
        }
        tags
    }

    fn auth(&mut self, auth: &Option<crate::schema::Auth>, key: &str, groups: &BTreeSet<u32>) {
        let Some(auth) = auth else { return };
        if !groups.contains(&*auth.group) {
            let message = format!("there is no auth group {}", *auth.group);
            self.wrong(&auth.group, format!("{key}.group"), message);
        }
        if auth.mutual && !auth.require {
            let message = "`mutual` needs `require: true`";
            self.wrong(&auth.group, format!("{key}.mutual"), message);
        }
    }

    fn nvme(&mut self) {
        let nvme = &self.config.targets.nvme;
        let mut names: BTreeMap<&str, u64> = BTreeMap::new();
        let keys = self.nvme_keys();
        if let Some(name) = &nvme.dup_host_policy {
            let known = DupHostPolicy::ALL.map(DupHostPolicy::name);
            if !known.contains(&name.as_str()) {
                let message = format!("there is no policy {:?}; expected {}", **name, known.join(" or "));
                self.wrong(name, "targets.nvme.dup_host_policy", message);
            }
        }
        for (i, subsystem) in nvme.subsystems.iter().enumerate() {
            let key = |k: &str| format!("targets.nvme.subsystems[{i}].{k}");
            self.nqn(&subsystem.nqn, key("nqn"));
            if let Some(line) = names.insert(&subsystem.nqn, subsystem.nqn.line) {
                self.wrong(
                    &subsystem.nqn,
                    key("nqn"),
                    format!("the subsystem {:?} is in line {line} already", *subsystem.nqn),
                );
            }
            for (what, text, max) in [("serial", &subsystem.serial, 20), ("model", &subsystem.model, 40)] {
                let Some(text) = text else { continue };
                if text.len() > max || text.is_empty() || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                    let message = format!(
                        "{:?} does not fit; expected 1 to {max} printable ASCII characters",
                        **text
                    );
                    self.wrong(text, key(what), message);
                }
            }
            let at = |id: &Option<At<u16>>| id.as_ref().map(|id| **id);
            let usual = SubsystemConfig::new("");
            let min = at(&subsystem.min_cntlid).unwrap_or(usual.min_cntlid);
            let max = at(&subsystem.max_cntlid).unwrap_or(usual.max_cntlid);
            if min == 0 || max > usual.max_cntlid || min > max {
                let message = format!(
                    "controller ids {min} to {max} do not lie within 1 to {}",
                    usual.max_cntlid
                );
                for (name, id) in [
                    ("min_cntlid", &subsystem.min_cntlid),
                    ("max_cntlid", &subsystem.max_cntlid),
                ] {
                    if let Some(id) = id {
                        self.wrong(id, key(name), message.clone());
                    }
                }
            }
            let mut nsids = BTreeSet::new();
            for (j, namespace) in subsystem.namespaces.iter().enumerate() {
                let key = format!("targets.nvme.subsystems[{i}].namespaces[{j}]");
                if !(1..=1024).contains(&*namespace.nsid) || !nsids.insert(*namespace.nsid) {
                    let message = format!(
                        "NSID {} is taken or out of range; expected different numbers from 1 to 1024",
                        *namespace.nsid
                    );
                    self.wrong(&namespace.nsid, format!("{key}.nsid"), message);
                }
                let mut seen = BTreeSet::new();
                for (k, host) in namespace.hosts.iter().flatten().enumerate() {
                    let at = format!("{key}.hosts[{k}]");
                    if !is_nqn(host) {
                        self.wrong(host, at, not_an_nqn(host));
                    } else if !seen.insert(host.as_str()) {
                        self.wrong(host, at, format!("the host {:?} is named twice", **host));
                    } else if let Some(allowed) = &subsystem.hosts
                        && !allowed.iter().any(|one| one.nqn == **host)
                    {
                        let message = format!(
                            "the host {:?} may not connect to the subsystem; expected one of its `hosts`",
                            **host
                        );
                        self.wrong(host, at, message);
                    }
                }
                let by = format!("subsystem {:?}", *subsystem.nqn);
                self.refer(&namespace.volume, &format!("{key}.volume"), Some(How::Served), by);
            }
            for (j, host) in subsystem.hosts.iter().flatten().enumerate() {
                self.nvme_host(host, &key(&format!("hosts[{j}]")), &keys);
            }
            // Who may be anybody cannot have a key.
            let own = subsystem.listeners.as_ref().or(nvme.listeners.as_ref());
            if let (None, Some(listener)) = (
                &subsystem.hosts,
                own.iter().flat_map(|own| own.iter()).find(|l| l.secure),
            ) {
                let message = format!(
                    "subsystem {:?} has a listener with TLS ({}, line {}) and lets any host in; expected `hosts` with a `psk` each",
                    *subsystem.nqn, listener.address, listener.line
                );
                self.wrong(&subsystem.nqn, key("hosts"), message);
            }
        }
        // The short form makes names of its own, which must not meet these.
        for (i, volume) in self.config.volumes.iter().enumerate() {
            let Some(name) = volume.name.as_ref().or(volume.on.as_ref()) else {
                continue;
            };
            let taken = self.config.targets.iscsi.nodes.iter().any(|n| *n.name == iqn(name))
                && volume.over.contains(&Protocol::Iscsi)
                || nvme.subsystems.iter().any(|s| *s.nqn == nqn(name)) && volume.over.contains(&Protocol::Nvme);
            if taken {
                self.wrong(
                    name,
                    format!("volumes[{i}]"),
                    format!("the name of volume {:?} is given to a target below too", **name),
                );
            }
        }
    }

    /// The names of keys; each comes once.
    fn nvme_keys(&mut self) -> BTreeSet<&'a str> {
        let mut names = BTreeSet::new();
        for (i, key) in self.config.targets.nvme.keys.iter().enumerate() {
            if key.name.is_empty() || !names.insert(key.name.as_str()) {
                let message = format!("the key name {:?} is taken; expected different ones", *key.name);
                self.wrong(&key.name, format!("targets.nvme.keys[{i}].name"), message);
            }
        }
        names
    }

    fn nvme_host(&mut self, host: &At<crate::schema::Host>, at: &str, keys: &BTreeSet<&str>) {
        if !is_nqn(&host.nqn) {
            self.wrong(host, at, not_an_nqn(&host.nqn));
        }
        for (what, name) in host.keys.all() {
            let Some(name) = name else { continue };
            if !keys.contains(name.as_str()) {
                let message = format!("there is no key {:?}; expected a name in targets.nvme.keys", **name);
                self.wrong(name, format!("{at}.{what}"), message);
            }
        }
        if let (None, Some(name)) = (&host.keys.dhchap_key, &host.keys.dhchap_ctrlr_key) {
            let message = "the host must have a `dhchap_key`, too";
            self.wrong(name, format!("{at}.dhchap_ctrlr_key"), message);
        }
    }

    fn nqn(&mut self, nqn: &At<String>, key: String) {
        if !is_nqn(nqn) {
            self.wrong(nqn, key, not_an_nqn(nqn));
        }
    }

    /// A disk is served, or its partitions are, or tables use it, each a part of their own.
    fn uses(&mut self) {
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

/// `disk0p2` is a partition of `disk0`.
pub(crate) fn partition_of(name: &str) -> Option<&str> {
    let (disk, number) = name.rsplit_once('p')?;
    let digits = !number.is_empty() && number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit());
    (digits && !number.starts_with('0') && !disk.is_empty()).then_some(disk)
}

/// True for `group/volume`, as LVM2 names them. Whether there is one nobody knows before the disks are looked at.
pub(crate) fn volume_of_group(name: &str) -> bool {
    use spec::lvm2::vg::is_name;
    name.split_once('/')
        .is_some_and(|(group, volume)| is_name(group) && is_name(volume))
}

/// What a volume is called that has no name of its own. `/` and `+` may not be in the names hosts see; `:` is in no name of LVM2's.
pub fn volume_name(disk: &str) -> String {
    disk.replace('/', ":").replace('+', ".")
}

/// The IQN of a volume in the short form.
pub fn iqn(volume: &str) -> String {
    // RFC 3722: names are compared in lower case; `_` is not allowed in them.
    format!(
        "iqn.2026-11.io.ashlar:{}",
        volume.to_ascii_lowercase().replace('_', "-")
    )
}

/// The NQN of a volume in the short form.
pub fn nqn(volume: &str) -> String {
    format!("nqn.2026-11.io.ashlar:{volume}")
}

fn listed<'a>(names: impl ExactSizeIterator<Item = &'a &'a str>) -> String {
    let more = names.len().saturating_sub(8);
    let mut text: Vec<String> = names.take(8).map(|name| format!("{name:?}")).collect();
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

/// Letters to change, add or drop to make one word of the other (Levenshtein). Names are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let here = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[b.len()]
}

fn is_nqn(text: &str) -> bool {
    text.starts_with("nqn.") && text.len() <= 223 && !text.chars().any(char::is_whitespace)
}

fn not_an_nqn(text: &str) -> String {
    format!("{text:?} is not an NQN; expected one like nqn.2026-11.io.ashlar:disk")
}
