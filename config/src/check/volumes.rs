//! Volumes: what they stand on, what hosts call them.
use super::{Checker, How};
use crate::{
    error::Problem,
    names::{iqn, volume_name},
    schema::At,
};
use std::collections::BTreeMap;

impl<'a> Checker<'a> {
    pub(super) fn volumes(&mut self) {
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
}
