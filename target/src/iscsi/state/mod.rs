//! What there is: portal groups, initiator groups, target nodes, connections. Rules and look-ups, no sockets.
//!
//! One mutex guards it all. It is taken by the control plane and at login, discovery and the end of a connection,
//! never for a command. The rules of target nodes and their LUNs are in `nodes`, those of authentication groups in
//! `secrets`.
mod nodes;
mod secrets;

pub(super) use nodes::new_unit;

use super::{
    access,
    auth::AuthGroup,
    options::{
        Auth, ConnectionInfo, InitiatorGroup, IscsiError, Options, PgIgMap, Portal, PortalGroup, Redirect, Stats,
        TargetNode,
    },
};
use crate::scsi::unit::Device;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Most portal groups, initiator groups and target nodes; and most entries of one of them.
const MANY: usize = 1024;

/// A portal group and what listens for it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) portals: Vec<Portal>,
    pub(super) bound: Vec<SocketAddr>,
    pub(super) private: bool,
    pub(super) auth: Option<Auth>,
}

/// A target node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) device: Arc<Device>,
    pub(super) alias: String,
    pub(super) maps: Vec<PgIgMap>,
    pub(super) queue_depth: u32,
    pub(super) auth: Auth,
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
    pub(super) redirect: BTreeMap<u32, Redirect>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) options: Options,
    pub(super) groups: BTreeMap<u32, Group>,
    pub(super) initiators: BTreeMap<u32, InitiatorGroup>,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) auth_groups: BTreeMap<u32, AuthGroup>,
    pub(super) connections: BTreeMap<u64, ConnectionInfo>,
    pub(super) exited: u32,
}

pub(super) fn not_found(what: &'static str, name: impl ToString) -> IscsiError {
    IscsiError::NotFound {
        what,
        name: name.to_string(),
    }
}

fn exists(what: &'static str, name: impl ToString) -> IscsiError {
    IscsiError::Exists {
        what,
        name: name.to_string(),
    }
}

fn invalid(what: &'static str, why: impl Into<String>) -> IscsiError {
    IscsiError::Invalid { what, why: why.into() }
}

fn room(what: &'static str, used: usize) -> Result<(), IscsiError> {
    match used < MANY {
        true => Ok(()),
        false => Err(IscsiError::TooMany {
            what,
            limit: MANY as u32,
        }),
    }
}

/// Checks what [`Auth`] asks for.
pub(super) fn check_auth(auth: &Auth) -> Result<(), IscsiError> {
    if auth.disable_chap && auth.require_chap {
        return Err(invalid("require_chap", "cannot be set together with disable_chap"));
    }
    if auth.mutual_chap && !auth.require_chap {
        return Err(invalid("mutual_chap", "needs require_chap"));
    }
    Ok(())
}

impl State {
    pub(super) fn set_options(&mut self, options: Options) -> Result<(), IscsiError> {
        let bounds = [
            ("max_sessions", options.max_sessions, 1, 65535),
            ("max_queue_depth", options.max_queue_depth, 1, 256),
            (
                "max_connections_per_session",
                options.max_connections_per_session,
                1,
                65535,
            ),
            ("first_burst_length", options.first_burst_length, 512, 0xff_ffff),
            ("max_r2t_per_connection", options.max_r2t_per_connection, 1, 256),
            ("default_time2wait", options.default_time2wait, 0, 3600),
            ("default_time2retain", options.default_time2retain, 0, 3600),
            ("error_recovery_level", options.error_recovery_level, 0, 0),
        ];
        for (what, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                return Err(invalid(what, format!("{value} is not within {low} to {high}")));
            }
        }
        if options.node_base.is_empty() || options.node_base.len() > 128 {
            return Err(invalid("node_base", "must have 1 to 128 characters"));
        }
        check_auth(&options.discovery_auth())?;
        self.options = options;
        Ok(())
    }

    /// What a discovery session through this portal group must do.
    pub(super) fn discovery_auth(&self, group: u32) -> Auth {
        let own = self.groups.get(&group).and_then(|group| group.auth);
        own.unwrap_or_else(|| self.options.discovery_auth())
    }

    // ---- portal groups

    pub(super) fn add_group(&mut self, tag: u32, portals: &[Portal], private: bool) -> Result<(), IscsiError> {
        if !(1..=65535).contains(&tag) {
            return Err(invalid("tag", format!("{tag} is not within 1 to 65535")));
        }
        if self.groups.contains_key(&tag) {
            return Err(exists("portal group", tag));
        }
        if portals.is_empty() || portals.len() > 64 {
            return Err(invalid("portals", "a group has 1 to 64 portals"));
        }
        room("portal groups", self.groups.len())?;
        for portal in portals.iter().filter(|p| p.port != 0) {
            if self.groups.values().any(|g| g.portals.contains(portal)) {
                return Err(exists("portal", format!("{}:{}", portal.host, portal.port)));
            }
        }
        self.groups.insert(
            tag,
            Group {
                portals: portals.to_vec(),
                bound: Vec::new(),
                private,
                auth: None,
            },
        );
        Ok(())
    }

    /// Removes the group and every map through it; the nodes that lost a map may lose connections.
    pub(super) fn remove_group(&mut self, tag: u32) -> Result<(), IscsiError> {
        self.groups.remove(&tag).ok_or_else(|| not_found("portal group", tag))?;
        for node in self.nodes.values_mut() {
            node.maps.retain(|map| map.pg_tag != tag);
            node.ports_changed();
        }
        Ok(())
    }

    pub(super) fn group(&mut self, tag: u32) -> Result<&mut Group, IscsiError> {
        self.groups.get_mut(&tag).ok_or_else(|| not_found("portal group", tag))
    }

    pub(super) fn group_infos(&self) -> Vec<PortalGroup> {
        let info = |(tag, group): (&u32, &Group)| PortalGroup {
            tag: *tag,
            portals: match group.bound.is_empty() {
                true => group.portals.clone(),
                false => {
                    let bound = group.portals.iter().zip(&group.bound);
                    bound
                        .map(|(portal, at)| Portal {
                            host: portal.host.clone(),
                            port: at.port(),
                        })
                        .collect()
                }
            },
            private: group.private,
            listening: !group.bound.is_empty(),
            auth: group.auth,
        };
        self.groups.iter().map(info).collect()
    }

    // ---- initiator groups

    pub(super) fn add_initiators(&mut self, group: InitiatorGroup) -> Result<(), IscsiError> {
        if self.initiators.contains_key(&group.tag) {
            return Err(exists("initiator group", group.tag));
        }
        room("initiator groups", self.initiators.len())?;
        room("initiators", group.initiators.len().max(group.netmasks.len()))?;
        access::check(&group)?;
        self.initiators.insert(group.tag, group);
        Ok(())
    }

    pub(super) fn remove_initiators(&mut self, tag: u32) -> Result<(), IscsiError> {
        self.initiators
            .remove(&tag)
            .ok_or_else(|| not_found("initiator group", tag))?;
        self.nodes
            .values_mut()
            .for_each(|node| node.maps.retain(|map| map.ig_tag != tag));
        Ok(())
    }

    /// Changes a group as a whole, or not at all.
    pub(super) fn edit_initiators(
        &mut self,
        tag: u32,
        change: impl FnOnce(&mut InitiatorGroup) -> Result<(), IscsiError>,
    ) -> Result<(), IscsiError> {
        let group = self
            .initiators
            .get_mut(&tag)
            .ok_or_else(|| not_found("initiator group", tag))?;
        let mut next = group.clone();
        change(&mut next)?;
        room("initiators", next.initiators.len().max(next.netmasks.len()))?;
        access::check(&next)?;
        *group = next;
        Ok(())
    }

    // ---- what a login asks

    /// May `initiator` at `address` use this node through this portal group?
    pub(super) fn allows(&self, node: &Node, group: u32, initiator: &str, address: IpAddr) -> bool {
        // The first map through this group whose initiator group allows it; an explicit "!" only speaks for its group.
        node.maps.iter().filter(|map| map.pg_tag == group).any(|map| {
            self.initiators
                .get(&map.ig_tag)
                .is_some_and(|initiators| access::allows(initiators, initiator, address))
        })
    }

    /// What discovery tells a host: names, each with the addresses it may come to.
    pub(super) fn targets_for(
        &self,
        came_to: (u32, SocketAddr),
        initiator: &str,
        address: IpAddr,
        only: Option<&str>,
    ) -> Vec<(String, Vec<(SocketAddr, u32)>)> {
        let mut found = Vec::new();
        for (name, node) in &self.nodes {
            if only.is_some_and(|only| only != name) {
                continue;
            }
            let mut addresses = Vec::new();
            for (tag, group) in &self.groups {
                let hidden = group.private && *tag != came_to.0;
                if hidden || group.bound.is_empty() || !self.allows(node, *tag, initiator, address) {
                    continue;
                }
                for bound in &group.bound {
                    // "Everywhere" is no address to tell; the one the host came to surely works.
                    let ip = if bound.ip().is_unspecified() {
                        // Through a socket for both, IPv4 looks like ::ffff:a.b.c.d.
                        came_to.1.ip().to_canonical()
                    } else {
                        bound.ip()
                    };
                    let at = (SocketAddr::new(ip, bound.port()), *tag);
                    if !addresses.contains(&at) {
                        addresses.push(at);
                    }
                }
            }
            if !addresses.is_empty() {
                found.push((name.clone(), addresses));
            }
        }
        found
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats {
            exited: self.exited,
            ..Stats::default()
        };
        for connection in self.connections.values() {
            match connection.state {
                "running" => stats.running += 1,
                "exiting" => stats.exiting += 1,
                _ => stats.invalid += 1,
            }
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        iscsi::options::{LunMap, LunOptions},
        scsi::unit::Unit,
    };
    use spec::scsi::Lun;

    fn volume(lun: Lun, map: &LunMap) -> Result<Unit, IscsiError> {
        let name = map.bdev_name.clone();
        match name.starts_with("vol") {
            true => new_unit(lun, map, name, uuid::Uuid::from_u128(7), &bdev::Geometry::plain(512, 8)),
            false => Err(not_found("volume", name)),
        }
    }

    fn state() -> State {
        let mut state = State::default();
        let portal = Portal {
            host: "127.0.0.1".into(),
            port: 3260,
        };
        state.add_group(1, std::slice::from_ref(&portal), false).unwrap();
        state.group(1).unwrap().bound = vec!["127.0.0.1:3260".parse().unwrap()];
        let any = InitiatorGroup {
            tag: 2,
            initiators: vec!["!iqn.x:bad".into(), "ANY".into()],
            netmasks: vec!["127.0.0.0/8".into()],
        };
        state.add_initiators(any).unwrap();
        state
    }

    fn node(name: &str) -> TargetNode {
        TargetNode {
            name: name.into(),
            alias_name: "alias".into(),
            pg_ig_maps: vec![PgIgMap { pg_tag: 1, ig_tag: 2 }],
            luns: vec![LunMap {
                bdev_name: "vol0".into(),
                lun_id: 0,
                options: LunOptions::default(),
            }],
            queue_depth: 64,
            auth: Auth::default(),
            header_digest: false,
            data_digest: false,
        }
    }

    #[test]
    fn a_node_is_found_by_those_who_may() {
        let mut state = state();
        state.add_node(&node("Disk1"), volume).unwrap();
        let here = (1, "127.0.0.1:3260".parse().unwrap());
        let told = state.targets_for(here, "iqn.x:good", "127.0.0.9".parse().unwrap(), None);
        assert_eq!(
            told,
            [(
                "iqn.2016-06.io.spdk:disk1".to_string(),
                vec![("127.0.0.1:3260".parse().unwrap(), 1)]
            )]
        );
        assert!(
            state
                .targets_for(here, "iqn.x:bad", "127.0.0.9".parse().unwrap(), None)
                .is_empty()
        );
        assert!(
            state
                .targets_for(here, "iqn.x:good", "10.0.0.1".parse().unwrap(), None)
                .is_empty()
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        let mut state = state();
        state.add_node(&node("iqn.2020-01.org.x:a"), volume).unwrap();
        let error = |result: Result<(), IscsiError>| result.unwrap_err().to_string();
        assert_eq!(
            error(state.add_node(&node("iqn.2020-01.org.x:a"), volume)),
            "target node iqn.2020-01.org.x:a exists already"
        );
        let mut lost = node("b");
        lost.luns[0].bdev_name = "nothing".into();
        assert_eq!(error(state.add_node(&lost, volume)), "volume nothing does not exist");
        let mut twice = node("b");
        twice.luns.push(twice.luns[0].clone());
        assert_eq!(error(state.add_node(&twice, volume)), "LUN 0 exists already");
        let mut unmapped = node("b");
        unmapped.pg_ig_maps[0].pg_tag = 9;
        assert_eq!(
            error(state.add_node(&unmapped, volume)),
            "portal group 9 does not exist"
        );
        assert!(state.add_node(&node("b b"), volume).is_err());
        assert_eq!(state.node_infos().len(), 1, "nothing half made");
    }

    #[test]
    fn luns_come_and_go_and_a_lost_volume_takes_its_units() {
        let mut state = state();
        state.add_node(&node("a"), volume).unwrap();
        assert_eq!(
            state.add_lun("a", "vol1", None, LunOptions::default(), volume).unwrap(),
            1
        );
        assert_eq!(
            state
                .add_lun("a", "vol0", Some(300), LunOptions::default(), volume)
                .unwrap(),
            300
        );
        assert!(
            state
                .add_lun("a", "vol1", Some(1), LunOptions::default(), volume)
                .is_err()
        );
        assert!(
            state
                .add_lun("a", "vol1", Some(16384), LunOptions::default(), volume)
                .is_err()
        );
        assert_eq!(state.drop_volume("vol0"), ["iqn.2016-06.io.spdk:a"]);
        let luns = &state.node_infos()[0].luns;
        assert_eq!(luns.len(), 1);
        assert_eq!((luns[0].lun_id, luns[0].bdev_name.as_str()), (1, "vol1"));
        assert!(state.remove_lun("a", 0).is_err());
        state.remove_lun("a", 1).unwrap();
    }

    #[test]
    fn groups_take_their_maps_with_them() {
        let mut state = state();
        state.add_node(&node("a"), volume).unwrap();
        state.remove_initiators(2).unwrap();
        assert!(state.node_infos()[0].pg_ig_maps.is_empty());
        state.remove_group(1).unwrap();
        assert!(state.remove_group(1).is_err());
    }

    #[test]
    fn chap_flags_must_make_sense() {
        let mut state = State::default();
        let both = Options {
            disable_chap: true,
            require_chap: true,
            ..Options::default()
        };
        assert!(state.set_options(both).is_err());
        let deep = Options {
            max_queue_depth: 0,
            ..Options::default()
        };
        assert!(state.set_options(deep).is_err());
    }
}
