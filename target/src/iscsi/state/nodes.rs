//! Target nodes: their names, who reaches them through which portals, and the volumes they offer as LUNs.
use super::*;
use crate::{
    iscsi::options::{LunMap, LunOptions, UnitInfo},
    scsi::unit::{Happening, Unit},
};
use bdev::Geometry;
use spec::scsi::Lun;
use uuid::Uuid;

impl State {
    /// The full name for what a person wrote.
    pub(in crate::iscsi) fn full_name(&self, name: &str) -> Result<String, IscsiError> {
        let lower = name.to_ascii_lowercase();
        let full = match ["iqn.", "eui.", "naa."].iter().any(|kind| lower.starts_with(kind)) {
            true => lower,
            false => format!("{}:{lower}", self.options.node_base),
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-.:_".contains(&b) || b >= 0x80;
        if name.is_empty() || full.len() > 223 || !full.bytes().all(fits) {
            return Err(invalid(
                "name",
                format!("{name:?}: an iSCSI name has up to 223 letters, digits, '-', '.', ':' and '_'"),
            ));
        }
        Ok(full)
    }

    pub(in crate::iscsi) fn add_node(
        &mut self,
        wanted: &TargetNode,
        volume: impl Fn(Lun, &LunMap) -> Result<Unit, IscsiError>,
    ) -> Result<(), IscsiError> {
        let name = self.full_name(&wanted.name)?;
        if self.nodes.contains_key(&name) {
            return Err(exists("target node", name));
        }
        room("target nodes", self.nodes.len())?;
        if wanted.luns.is_empty() || wanted.luns.len() > MANY {
            return Err(invalid("luns", format!("a target node has 1 to {MANY} LUNs")));
        }
        if wanted.queue_depth == 0 || wanted.queue_depth > 256 {
            return Err(invalid(
                "queue_depth",
                format!("{} is not within 1 to 256", wanted.queue_depth),
            ));
        }
        check_auth(&wanted.auth)?;
        self.check_maps(&[], &wanted.pg_ig_maps)?;
        let device = Device::new(name.clone());
        device.edit(|table| {
            for map in &wanted.luns {
                let unit = unit(map, &volume)?;
                if table.insert(unit.lun, unit).is_some() {
                    return Err(exists("LUN", map.lun_id));
                }
            }
            Ok(())
        })?;
        device.edit_ports(|ports| {
            ports.keep(tags(&wanted.pg_ig_maps));
            false // nobody is there yet
        });
        self.nodes.insert(
            name,
            Node {
                device: Arc::new(device),
                alias: wanted.alias_name.clone(),
                maps: wanted.pg_ig_maps.clone(),
                queue_depth: wanted.queue_depth,
                auth: wanted.auth,
                header_digest: wanted.header_digest,
                data_digest: wanted.data_digest,
                redirect: BTreeMap::new(),
            },
        );
        Ok(())
    }

    fn check_maps(&self, have: &[PgIgMap], more: &[PgIgMap]) -> Result<(), IscsiError> {
        room("maps", have.len() + more.len())?;
        for (i, map) in more.iter().enumerate() {
            if !self.groups.contains_key(&map.pg_tag) {
                return Err(not_found("portal group", map.pg_tag));
            }
            if !self.initiators.contains_key(&map.ig_tag) {
                return Err(not_found("initiator group", map.ig_tag));
            }
            if have.contains(map) || more[..i].contains(map) {
                return Err(exists("map", format!("{}:{}", map.pg_tag, map.ig_tag)));
            }
        }
        Ok(())
    }

    pub(in crate::iscsi) fn node(&mut self, name: &str) -> Result<&mut Node, IscsiError> {
        let full = self.full_name(name)?;
        self.nodes.get_mut(&full).ok_or_else(|| not_found("target node", name))
    }

    pub(in crate::iscsi) fn remove_node(&mut self, name: &str) -> Result<Node, IscsiError> {
        let full = self.full_name(name)?;
        self.nodes.remove(&full).ok_or_else(|| not_found("target node", name))
    }

    pub(in crate::iscsi) fn add_maps(&mut self, name: &str, maps: &[PgIgMap]) -> Result<(), IscsiError> {
        let have = self.node(name)?.maps.clone();
        self.check_maps(&have, maps)?;
        let node = self.node(name)?;
        node.maps.extend_from_slice(maps);
        node.ports_changed();
        Ok(())
    }

    pub(in crate::iscsi) fn remove_maps(&mut self, name: &str, maps: &[PgIgMap]) -> Result<(), IscsiError> {
        let node = self.node(name)?;
        if let Some(map) = maps.iter().find(|map| !node.maps.contains(map)) {
            return Err(not_found("map", format!("{}:{}", map.pg_tag, map.ig_tag)));
        }
        node.maps.retain(|map| !maps.contains(map));
        node.ports_changed();
        Ok(())
    }

    pub(in crate::iscsi) fn add_lun(
        &mut self,
        name: &str,
        volume: &str,
        lun: Option<u16>,
        options: LunOptions,
        find: impl Fn(Lun, &LunMap) -> Result<Unit, IscsiError>,
    ) -> Result<u16, IscsiError> {
        let device = self.node(name)?.device.clone();
        let (_, table) = device.table();
        room("LUNs", table.len())?;
        let free = || (0..Lun::LIMIT).find(|n| Lun::new(*n).is_some_and(|lun| !table.contains_key(&lun)));
        // There are more numbers than a table may have entries.
        let lun_id = lun.or_else(free).unwrap_or(Lun::LIMIT);
        let map = LunMap {
            bdev_name: volume.into(),
            lun_id,
            options,
        };
        let unit = unit(&map, find)?;
        if table.contains_key(&unit.lun) {
            return Err(exists("LUN", lun_id));
        }
        device.edit(|table| table.insert(unit.lun, unit));
        Ok(lun_id)
    }

    pub(in crate::iscsi) fn remove_lun(&mut self, name: &str, lun: u16) -> Result<(), IscsiError> {
        let device = self.node(name)?.device.clone();
        let gone = Lun::new(lun).and_then(|lun| device.edit(|table| table.remove(&lun)));
        gone.map(drop).ok_or_else(|| not_found("LUN", lun))
    }

    /// Every unit of every node that stands on this volume hears of it.
    pub(in crate::iscsi) fn tell(&self, volume: &str, what: Happening) {
        for node in self.nodes.values() {
            let (_, table) = node.device.table();
            table
                .values()
                .filter(|unit| unit.volume == volume)
                .for_each(|unit| unit.happened(what));
        }
    }

    /// Removes every unit of this volume; the names of the targets that had one.
    pub(in crate::iscsi) fn drop_volume(&mut self, volume: &str) -> Vec<String> {
        let mut touched = Vec::new();
        for (name, node) in &self.nodes {
            let (_, table) = node.device.table();
            if table.values().any(|unit| unit.volume == volume) {
                node.device.edit(|table| table.retain(|_, unit| unit.volume != volume));
                touched.push(name.clone());
            }
        }
        touched
    }

    /// The units of a node as they are.
    pub(in crate::iscsi) fn unit_infos(&mut self, name: &str) -> Result<Vec<UnitInfo>, IscsiError> {
        let (_, table) = self.node(name)?.device.table();
        let info = |unit: &Arc<Unit>| UnitInfo {
            map: lun_map(unit),
            read_only: unit.options.read_only || unit.settings().write_protect,
            write_cache: unit.settings().write_cache,
            medium_present: unit.medium().is_ok(),
            errors: unit.errors(),
            reservations: unit.reservations.snapshot(),
        };
        Ok(table.values().map(info).collect())
    }

    pub(in crate::iscsi) fn node_infos(&self) -> Vec<TargetNode> {
        let info = |(name, node): (&String, &Node)| TargetNode {
            name: name.clone(),
            alias_name: node.alias.clone(),
            pg_ig_maps: node.maps.clone(),
            luns: {
                let (_, table) = node.device.table();
                table.values().map(lun_map).collect()
            },
            queue_depth: node.queue_depth,
            auth: node.auth,
            header_digest: node.header_digest,
            data_digest: node.data_digest,
        };
        self.nodes.iter().map(info).collect()
    }
}

impl Node {
    /// The target has a port for each portal group that somebody may come through.
    pub(in crate::iscsi) fn ports_changed(&self) {
        self.device.edit_ports(|ports| {
            let before = ports.groups();
            ports.keep(tags(&self.maps));
            ports.groups() != before
        });
    }
}

fn tags(maps: &[PgIgMap]) -> impl Iterator<Item = u16> {
    // Checked when the group was made.
    maps.iter().filter_map(|map| u16::try_from(map.pg_tag).ok())
}

fn lun_map(unit: &Arc<Unit>) -> LunMap {
    LunMap {
        bdev_name: unit.volume.clone(),
        lun_id: unit.lun.number(),
        options: unit.options.clone(),
    }
}

fn unit(map: &LunMap, find: impl Fn(Lun, &LunMap) -> Result<Unit, IscsiError>) -> Result<Arc<Unit>, IscsiError> {
    let lun = Lun::new(map.lun_id).ok_or_else(|| {
        invalid(
            "lun_id",
            format!("{} is not within 0 to {}", map.lun_id, Lun::LIMIT - 1),
        )
    })?;
    find(lun, map).map(Arc::new)
}

/// A unit on a volume that is there, if its options make sense for it.
pub(in crate::iscsi) fn new_unit(
    lun: Lun,
    map: &LunMap,
    volume: String,
    uuid: Uuid,
    geometry: &Geometry,
) -> Result<Unit, IscsiError> {
    let checked = map.options.check_for(geometry);
    checked.map_err(|bad| invalid(bad.what, format!("LUN {} on {volume}: {}", map.lun_id, bad.why)))?;
    Ok(Unit::new(lun, volume, uuid, map.options.clone(), geometry))
}
