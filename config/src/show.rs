//! The running state in the schema of the configuration file: what `ashlar config show` prints, fit to be loaded again.
//!
//! Disks, tables and targets are as they run, by whoever they were made. The short form is shown as the targets it became. What was settled at
//! the start and cannot change (reactors, socket, log level, state directory) is taken from the configuration that was loaded.
use crate::{
    disks::{Shown, shown},
    schema::{
        Access, Alua, At, Auth, AuthGroup, Config, Host, Iscsi, Key, Keys, Listener, Lun, Mutual, Namespace, Node,
        Nvme, PortalGroup, Redirect, Subsystem, Targets, User,
    },
};
use bdev::Graph;
use lvol::Create;
use std::net::SocketAddr;
use target::{
    iscsi::{Portal, TargetNode, auth::Credential},
    nvmf::{DupHostPolicy, HostKeys, SubsystemConfig, SubsystemInfo},
};

/// A configuration as the text of a file.
pub fn to_yaml(config: &Config) -> Result<String, String> {
    serde_saphyr::to_string(config).map_err(|error| error.to_string())
}

/// The running state. `base` is the configuration that was loaded at the start, `wishes` what the engine was asked for.
pub fn show(
    base: &Config,
    wishes: &[Create],
    graph: &Graph,
    iscsi: &target::iscsi::Iscsi,
    nvmf: &target::nvmf::Nvmf,
) -> Config {
    let mut config = Config {
        state: base.state.clone(),
        reactors: base.reactors.clone(),
        engine: base.engine,
        lvm2: base.lvm2.clone(),
        discovery: base.discovery.clone(),
        arrays: base.arrays.clone(),
        rpc: base.rpc.clone(),
        log: base.log,
        audit: base.audit.clone(),
        ..Config::default()
    };
    for wish in wishes {
        match shown(wish, graph) {
            Some(Shown::Disk(disk)) => config.disks.push(*disk),
            Some(Shown::Table(table)) => config.tables.push(*table),
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
                private: group.private,
                discovery_auth: group.auth.and_then(auth),
            }),
        }
    }
    let options = running.options();
    shown.discovery_auth = auth(options.discovery_auth());
    shown.chap_algorithms = (!options.chap_algorithms.is_empty()).then(|| options.chap_algorithms.clone().into());
    let usual = target::iscsi::Options::default();
    shown.max_sessions = (options.max_sessions != usual.max_sessions).then(|| options.max_sessions.into());
    shown.auth_groups = running.auth_groups().iter().map(auth_group).collect();
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
            auth: auth(node.auth),
            redirect: redirects(running, &node.name),
            explicit_alua: running.alua(&node.name).is_ok_and(|alua| alua.explicit),
            alua: alua(running, &node.name),
        });
    }
    shown
}

/// Portal groups that are not simply active.
fn alua(running: &target::iscsi::Iscsi, name: &str) -> Vec<Alua> {
    let groups = running.alua(name).unwrap_or_default().portal_groups;
    let said = groups.iter().filter(|group| !group.is_plain());
    said.map(|group| Alua {
        portal_group: group.pg_tag.into(),
        state: group.alua_state,
        preferred: group.preferred,
    })
    .collect()
}

/// `None`: nothing. SPDK's "CHAP is not even offered" is shown as that, for hosts cannot tell the difference.
fn auth(auth: target::iscsi::Auth) -> Option<Auth> {
    let said = auth.require_chap || (!auth.disable_chap && auth.chap_group != 0);
    said.then(|| Auth {
        group: auth.chap_group.into(),
        require: auth.require_chap,
        mutual: auth.mutual_chap,
    })
}

/// A group without the users whose secrets are in no file: this form has no other place for them.
fn auth_group(group: &target::iscsi::auth::AuthGroup) -> AuthGroup {
    let user = |one: &Credential| {
        let ours = one.mutual.as_ref().map(|(name, _)| Mutual {
            user: name.as_str().into(),
            secret_file: one.files.1.clone().unwrap_or_default(),
        });
        Some(User {
            user: one.user.as_str().into(),
            secret_file: one.files.0.clone().filter(|_| one.is_in_files())?,
            mutual: ours,
        })
    };
    AuthGroup {
        tag: group.tag.into(),
        users: group.credentials.iter().filter_map(user).collect(),
    }
}

fn redirects(running: &target::iscsi::Iscsi, node: &str) -> Vec<Redirect> {
    let all = running.redirects(node).unwrap_or_default();
    all.into_iter()
        .map(|(tag, redirect)| Redirect {
            portal_group: tag.into(),
            to: redirect.to.into(),
            permanent: redirect.permanent,
        })
        .collect()
}

fn socket(portal: &Portal) -> Option<SocketAddr> {
    Some(SocketAddr::new(
        portal.host.trim_matches(['[', ']']).parse().ok()?,
        portal.port,
    ))
}

fn nvme(running: &target::nvmf::Nvmf) -> Nvme {
    let all = running.subsystems();
    let addresses = |info: &SubsystemInfo| {
        let all = running.listeners(&info.nqn).unwrap_or_default();
        all.iter()
            .map(|l| Listener {
                address: l.address.socket,
                secure: l.secure,
            })
            .collect::<Vec<_>>()
    };
    let everywhere = all
        .iter()
        .find(|info| info.discovery)
        .map(addresses)
        .unwrap_or_default();
    let at = |listeners: &[Listener]| listeners.iter().map(|l| (*l).into()).collect::<Vec<At<Listener>>>();
    let key = |name: &Option<String>| name.as_deref().map(Into::into);
    let host = |(nqn, keys): &(String, HostKeys)| {
        let keys = Keys {
            psk: key(&keys.psk),
            dhchap_key: key(&keys.dhchap_key),
            dhchap_ctrlr_key: key(&keys.dhchap_ctrlr_key),
        };
        At::from(Host { nqn: nqn.clone(), keys })
    };
    let usual = SubsystemConfig::new("");
    let subsystem = |info: &SubsystemInfo| {
        let namespaces = info.namespaces.iter().map(|n| Namespace {
            nsid: n.nsid.into(),
            volume: n.volume.as_str().into(),
            hosts: n
                .no_auto_visible
                .then(|| n.hosts.iter().map(|host| host.as_str().into()).collect()),
        });
        let own = addresses(info);
        let mut shown = Subsystem {
            nqn: info.nqn.as_str().into(),
            serial: Some(info.serial_number.trim_end().into()),
            model: Some(info.model_number.trim_end())
                .filter(|m| *m != SubsystemConfig::MODEL)
                .map(Into::into),
            namespaces: namespaces.collect(),
            hosts: (!info.allow_any_host).then(|| info.hosts.iter().map(host).collect()),
            listeners: (own != everywhere).then(|| at(&own)),
            min_cntlid: Some(info.min_cntlid)
                .filter(|id| *id != usual.min_cntlid)
                .map(Into::into),
            max_cntlid: Some(info.max_cntlid)
                .filter(|id| *id != usual.max_cntlid)
                .map(Into::into),
            shared: None,
            enable_nssr: info.enable_nssr,
        };
        if shown.is_shared() != info.shared {
            shown.shared = Some(info.shared);
        }
        shown
    };
    let keys = running.keyring().list().into_iter().map(|(name, file)| Key {
        name: name.into(),
        file,
    });
    Nvme {
        listeners: running.transport().is_some().then(|| at(&everywhere)),
        keys: keys.collect(),
        mdns: running.publishes_mdns(),
        dup_host_policy: Some(running.config().dup_host_policy)
            .filter(|policy| *policy != DupHostPolicy::default())
            .map(|policy| policy.name().into()),
        subsystems: all.iter().filter(|info| !info.discovery).map(subsystem).collect(),
    }
}
