//! The running state in the schema of the configuration file: what `ashlar config show` prints, fit to be loaded again.
//!
//! Disks, tables and targets are as they run, by whoever they were made. The short form is shown as the targets it became. What was settled at
//! the start and cannot change (reactors, socket, log level, state directory) is taken from the configuration that was loaded.
use crate::{
    disks::{Shown, shown},
    schema::{Access, At, Config, Iscsi, Lun, Namespace, Node, Nvme, PortalGroup, Subsystem, Targets},
};
use lvol::Engine;
use std::net::SocketAddr;
use target::{
    iscsi::{Portal, TargetNode},
    nvmf::{SubsystemConfig, SubsystemInfo},
};

/// A configuration as the text of a file.
pub fn to_yaml(config: &Config) -> Result<String, String> {
    serde_saphyr::to_string(config).map_err(|error| error.to_string())
}

/// The running state. `base` is the configuration that was loaded at the start.
pub fn show(base: &Config, engine: &Engine, iscsi: &target::iscsi::Iscsi, nvmf: &target::nvmf::Nvmf) -> Config {
    let mut config = Config {
        state: base.state.clone(),
        reactors: base.reactors.clone(),
        rpc: base.rpc.clone(),
        log: base.log,
        ..Config::default()
    };
    for wish in engine.wishes() {
        match shown(&wish, engine) {
            Some(Shown::Disk(disk)) => config.disks.push(disk),
            Some(Shown::Table(table)) => config.tables.push(table),
            None => {}
        }
    }
    config.targets = Targets {
        iscsi: self::iscsi(iscsi),
        nvme: nvme(nvmf),
    };
    config
}

fn iscsi(running: &target::iscsi::Iscsi) -> Iscsi {
    let mut shown = Iscsi::default();
    for group in running.portal_groups() {
        let portals: Vec<At<SocketAddr>> = group.portals.iter().filter_map(|p| Some(socket(p)?.into())).collect();
        match group.tag {
            1 => shown.portals = Some(portals),
            tag => shown.portal_groups.push(PortalGroup {
                tag: tag.into(),
                portals,
            }),
        }
    }
    let tags: Vec<u32> = running.portal_groups().iter().map(|group| group.tag).collect();
    let initiators = running.initiator_groups();
    let access = |node: &TargetNode| {
        let way = |map: &target::iscsi::PgIgMap| {
            let group = initiators.iter().find(|group| group.tag == map.ig_tag);
            Access {
                portal_group: map.pg_tag.into(),
                initiators: group.map(|g| g.initiators.clone()).unwrap_or_default(),
                netmasks: group.map(|g| g.netmasks.clone()).unwrap_or_default(),
            }
        };
        let ways: Vec<Access> = node.pg_ig_maps.iter().map(way).collect();
        let open = |way: &Access| way.initiators == ["ANY"] && way.netmasks == ["ANY"];
        // Everybody through every portal: that is what nothing said means.
        let all = ways.iter().all(open) && tags.iter().all(|tag| ways.iter().any(|way| *way.portal_group == *tag));
        (!all).then_some(ways)
    };
    for node in running.target_nodes() {
        let luns = node.luns.iter().map(|l| Lun {
            lun: l.lun_id.into(),
            volume: l.bdev_name.as_str().into(),
            options: l.options.clone(),
        });
        shown.nodes.push(Node {
            name: node.name.as_str().into(),
            alias: (!node.alias_name.is_empty()).then(|| node.alias_name.clone()),
            luns: luns.collect(),
            access: access(&node),
        });
    }
    shown
}

fn socket(portal: &Portal) -> Option<SocketAddr> {
    Some(SocketAddr::new(
        portal.host.trim_matches(['[', ']']).parse().ok()?,
        portal.port,
    ))
}

fn nvme(running: &target::nvmf::Nvmf) -> Nvme {
    let all = running.subsystems();
    let addresses = |info: &SubsystemInfo| info.listen_addresses.iter().map(|a| a.socket).collect::<Vec<_>>();
    let everywhere = all
        .iter()
        .find(|info| info.discovery)
        .map(addresses)
        .unwrap_or_default();
    let at = |sockets: &[SocketAddr]| sockets.iter().map(|s| (*s).into()).collect::<Vec<At<SocketAddr>>>();
    let subsystem = |info: &SubsystemInfo| {
        let namespaces = info.namespaces.iter().map(|n| Namespace {
            nsid: n.nsid.into(),
            volume: n.volume.as_str().into(),
        });
        let own = addresses(info);
        Subsystem {
            nqn: info.nqn.as_str().into(),
            serial: Some(info.serial_number.trim_end().into()),
            model: Some(info.model_number.trim_end())
                .filter(|m| *m != SubsystemConfig::MODEL)
                .map(Into::into),
            namespaces: namespaces.collect(),
            hosts: (!info.allow_any_host).then(|| info.hosts.iter().map(|h| h.as_str().into()).collect()),
            listeners: (own != everywhere).then(|| at(&own)),
        }
    };
    Nvme {
        listeners: running.transport().is_some().then(|| at(&everywhere)),
        subsystems: all.iter().filter(|info| !info.discovery).map(subsystem).collect(),
    }
}
