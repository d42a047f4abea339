//! The control handle: what RPC, configuration and the command line ask of the iSCSI front end.
use super::{
    auth::{AuthGroup, Credential},
    auth_file,
    options::{
        Alua, AluaGroup, Auth, ConnectionInfo, InitiatorGroup, IscsiError, LunMap, LunOptions, Options, PgIgMap,
        Portal, PortalGroup, Redirect, Stats, TargetNode, UnitInfo,
    },
    server::Server,
};
use bdev::graph::Graph;
use reactor::Reactors;
use spec::{
    iscsi::bhs::AsyncEvent,
    scsi::{
        AccessState,
        target_port_groups::{Cause, Group},
    },
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

/// The iSCSI front end. A handle: clones mean the same thing, and it may be used from any control thread. Its methods
/// take locks and some talk to reactors, so none of them may be called on a reactor.
#[derive(Clone)]
pub struct Iscsi {
    server: Arc<Server>,
}

impl Iscsi {
    /// A front end that listens nowhere and has no targets. Its connections will be spread over all of `reactors`.
    pub fn new(reactors: Reactors, graph: Graph) -> Self {
        Self {
            server: Server::new(reactors, graph),
        }
    }

    /// Keeps below this folder reservations for which hosts ask that (APTPL), and what sanitizes are under way. To be called
    /// before there are targets; without it hosts are told that no reservation is kept, and a sanitize ends with the process.
    pub fn keep_state(&self, state_dir: &Path) -> std::io::Result<()> {
        self.server.reservations.keep_in(state_dir)?;
        self.server.sanitizations.keep_in(state_dir)
    }

    /// The options as they are.
    pub fn options(&self) -> Options {
        self.server.state().options.clone()
    }

    /// Sets all options. They take effect at the next login. [`IscsiError::Invalid`] names the one that is wrong.
    pub fn set_options(&self, options: Options) -> Result<(), IscsiError> {
        let file = options.auth_file.as_deref().map(auth_file::read).transpose()?;
        let mut state = self.server.state();
        state.set_options(options)?;
        state.take_auth_file(file.unwrap_or_default())
    }

    /// What discovery sessions must do.
    pub fn set_discovery_auth(&self, auth: Auth) -> Result<(), IscsiError> {
        super::state::check_auth(&auth)?;
        let options = &mut self.server.state().options;
        options.disable_chap = auth.disable_chap;
        options.require_chap = auth.require_chap;
        options.mutual_chap = auth.mutual_chap;
        options.chap_group = auth.chap_group;
        Ok(())
    }

    // ---- authentication groups

    /// Makes a group of users and their secrets.
    pub fn create_auth_group(&self, group: AuthGroup) -> Result<(), IscsiError> {
        self.server.state().add_auth_group(group)
    }

    /// Forgets a group. Who must authenticate by it cannot come any more; sessions that are there stay.
    pub fn delete_auth_group(&self, tag: u32) -> Result<(), IscsiError> {
        self.server.state().remove_auth_group(tag)
    }

    /// Adds a user to a group.
    pub fn add_secret(&self, tag: u32, credential: Credential) -> Result<(), IscsiError> {
        self.server.state().add_secret(tag, credential)
    }

    /// Forgets a user of a group.
    pub fn remove_secret(&self, tag: u32, user: &str) -> Result<(), IscsiError> {
        self.server.state().remove_secret(tag, user)
    }

    /// All authentication groups by tag.
    pub fn auth_groups(&self) -> Vec<AuthGroup> {
        self.server.state().auth_groups.values().cloned().collect()
    }

    // ---- portal groups

    /// Makes a portal group and, unless `wait`, listens on its portals. If one of them cannot listen there is no group.
    pub fn create_portal_group(
        &self,
        tag: u32,
        portals: &[Portal],
        private: bool,
        wait: bool,
    ) -> Result<(), IscsiError> {
        self.server.state().add_group(tag, portals, private)?;
        if !wait && let Err(error) = self.server.listen(tag) {
            // It was made a moment ago.
            let _ = self.server.state().remove_group(tag);
            return Err(error);
        }
        Ok(())
    }

    /// Listens on the portals of a group made with `wait`. Does nothing if it listens already.
    pub fn start_portal_group(&self, tag: u32) -> Result<(), IscsiError> {
        self.server.listen(tag)
    }

    /// Stops listening, drops the connections that came through the group, and forgets it and every map through it.
    pub fn delete_portal_group(&self, tag: u32) -> Result<(), IscsiError> {
        self.server.state().remove_group(tag)?;
        self.server.unlisten(tag);
        self.server
            .drop_out(AsyncEvent::ConnectionDropped, |c| c.portal_group == tag);
        Ok(())
    }

    /// All portal groups by tag, with the ports they are really bound to.
    pub fn portal_groups(&self) -> Vec<PortalGroup> {
        self.server.state().group_infos()
    }

    /// What discovery through this group must do, whatever the options say.
    pub fn set_portal_group_auth(&self, tag: u32, auth: Auth) -> Result<(), IscsiError> {
        super::state::check_auth(&auth)?;
        self.server.state().group(tag)?.auth = Some(auth);
        Ok(())
    }

    // ---- initiator groups

    /// Makes an initiator group.
    pub fn create_initiator_group(&self, group: InitiatorGroup) -> Result<(), IscsiError> {
        self.server.state().add_initiators(group)
    }

    /// Forgets a group and every map to it. Sessions that are there stay.
    pub fn delete_initiator_group(&self, tag: u32) -> Result<(), IscsiError> {
        self.server.state().remove_initiators(tag)
    }

    /// Adds names and networks to a group. [`IscsiError::Exists`] if one of them is in it.
    pub fn add_initiators(&self, tag: u32, initiators: &[String], netmasks: &[String]) -> Result<(), IscsiError> {
        self.server.state().edit_initiators(tag, |group| {
            for (list, more, what) in [
                (&mut group.initiators, initiators, "initiator"),
                (&mut group.netmasks, netmasks, "netmask"),
            ] {
                for entry in more {
                    if list.contains(entry) {
                        let name = entry.clone();
                        return Err(IscsiError::Exists { what, name });
                    }
                    list.push(entry.clone());
                }
            }
            Ok(())
        })
    }

    /// Removes names and networks from a group. [`IscsiError::NotFound`] if one of them is not in it.
    pub fn remove_initiators(&self, tag: u32, initiators: &[String], netmasks: &[String]) -> Result<(), IscsiError> {
        self.server.state().edit_initiators(tag, |group| {
            for (list, less, what) in [
                (&mut group.initiators, initiators, "initiator"),
                (&mut group.netmasks, netmasks, "netmask"),
            ] {
                for entry in less {
                    let name = || entry.clone();
                    let at = list.iter().position(|have| have == entry);
                    list.remove(at.ok_or_else(|| IscsiError::NotFound { what, name: name() })?);
                }
            }
            Ok(())
        })
    }

    /// All initiator groups by tag.
    pub fn initiator_groups(&self) -> Vec<InitiatorGroup> {
        self.server.state().initiators.values().cloned().collect()
    }

    // ---- target nodes

    /// Makes a target node. Its volumes and groups must exist.
    pub fn create_target_node(&self, node: &TargetNode) -> Result<(), IscsiError> {
        self.server
            .state()
            .add_node(node, |lun, map| self.server.unit(lun, map))
    }

    /// Drops the node's sessions and forgets it.
    pub fn delete_target_node(&self, name: &str) -> Result<(), IscsiError> {
        let node = self.server.state().remove_node(name)?;
        self.server
            .drop_out(AsyncEvent::SessionDropped, |c| c.target_node_name == node.device.name);
        Ok(())
    }

    /// All target nodes by name.
    pub fn target_nodes(&self) -> Vec<TargetNode> {
        self.server.state().node_infos()
    }

    /// The units of a node as they are: what hosts have set, ejected and reserved.
    pub fn units(&self, name: &str) -> Result<Vec<UnitInfo>, IscsiError> {
        self.server.state().unit_infos(name)
    }

    /// Counts how long commands of this node take, or stops and forgets what was counted.
    pub fn enable_histogram(&self, name: &str, enable: bool) -> Result<(), IscsiError> {
        self.server.state().node(name)?.device.latencies.switch(enable);
        Ok(())
    }

    /// How many commands of this node took how long, by the buckets of [`latencies`](crate::scsi::latencies); `None`: nobody
    /// counts.
    pub fn histogram(&self, name: &str) -> Result<Option<Vec<u64>>, IscsiError> {
        Ok(self.server.state().node(name)?.device.latencies.counts())
    }

    /// What hosts of this node must do. Sessions that are there stay.
    pub fn set_target_node_auth(&self, name: &str, auth: Auth) -> Result<(), IscsiError> {
        super::state::check_auth(&auth)?;
        self.server.state().node(name)?.auth = auth;
        Ok(())
    }

    /// Lets more initiators in.
    pub fn add_pg_ig_maps(&self, name: &str, maps: &[PgIgMap]) -> Result<(), IscsiError> {
        self.server.state().add_maps(name, maps)
    }

    /// Lets fewer initiators in. Sessions that are there stay.
    pub fn remove_pg_ig_maps(&self, name: &str, maps: &[PgIgMap]) -> Result<(), IscsiError> {
        self.server.state().remove_maps(name, maps)
    }

    /// Adds a volume, at the first free number if none is given; the number. Hosts are told (unit attention).
    pub fn add_lun(&self, name: &str, volume: &str, lun: Option<u16>, options: LunOptions) -> Result<u16, IscsiError> {
        let find = |lun, map: &LunMap| self.server.unit(lun, map);
        self.server.state().add_lun(name, volume, lun, options, find)
    }

    /// Takes a volume away. Commands in flight end as they would have; hosts are told.
    pub fn remove_lun(&self, name: &str, lun: u16) -> Result<(), IscsiError> {
        let device = {
            let mut state = self.server.state();
            state.remove_lun(name, lun)?;
            state.node(name)?.device.name.clone()
        };
        self.server.refresh(|connection| connection.target_node_name == device);
        Ok(())
    }

    /// Sends logins that come through this portal group elsewhere (`None`: not any more). Not to where they came from: a
    /// host would go round in circles; nor from a private group, which is where others are sent to.
    pub fn set_redirect(&self, name: &str, pg_tag: u32, to: Option<Redirect>) -> Result<(), IscsiError> {
        let mut state = self.server.state();
        let group = state.group(pg_tag)?;
        let circle = to.is_some_and(|redirect| group.bound.contains(&redirect.to));
        if group.private || circle {
            let why = match circle {
                true => "the address is of the same portal group",
                false => "the portal group is private",
            };
            return Err(IscsiError::Invalid {
                what: "redirect",
                why: why.into(),
            });
        }
        let node = state.node(name)?;
        if !node.maps.iter().any(|map| map.pg_tag == pg_tag) {
            return Err(IscsiError::NotFound {
                what: "portal group",
                name: pg_tag.to_string(),
            });
        }
        match to {
            Some(to) => node.redirect.insert(pg_tag, to),
            None => node.redirect.remove(&pg_tag),
        };
        Ok(())
    }

    /// Where logins are sent on to, by portal group.
    pub fn redirects(&self, name: &str) -> Result<BTreeMap<u32, Redirect>, IscsiError> {
        Ok(self.server.state().node(name)?.redirect.clone())
    }

    // ---- asymmetric access

    /// How well each portal group reaches the node's units.
    pub fn alua(&self, name: &str) -> Result<Alua, IscsiError> {
        let ports = self.server.state().node(name)?.device.ports();
        let group = |group: &Group| AluaGroup {
            pg_tag: group.tag.into(),
            alua_state: group.state,
            preferred: group.preferred,
        };
        Ok(Alua {
            explicit: ports.explicit,
            portal_groups: ports.groups().iter().map(group).collect(),
        })
    }

    /// Sets the state of a portal group of the node, and whether it is preferred (`None`: as it was). Hosts are told (unit
    /// attention), and commands find the new state at once.
    pub fn set_alua_state(
        &self,
        name: &str,
        pg_tag: u32,
        state: AccessState,
        preferred: Option<bool>,
    ) -> Result<(), IscsiError> {
        let device = self.server.state().node(name)?.device.clone();
        let mut known = false;
        device.edit_ports(|ports| {
            let tag = u16::try_from(pg_tag).unwrap_or(0); // no group has tag 0
            let set = ports.set(tag, state, Cause::Implicit);
            known = set.is_some();
            let moved = preferred.and_then(|preferred| ports.prefer(tag, preferred));
            set == Some(true) || moved == Some(true)
        });
        match known {
            true => Ok(()),
            false => Err(super::state::not_found("portal group", pg_tag)),
        }
    }

    /// Whether hosts may set states. They read it from INQUIRY data, when they look at it the next time.
    pub fn set_explicit_alua(&self, name: &str, explicit: bool) -> Result<(), IscsiError> {
        let device = self.server.state().node(name)?.device.clone();
        device.edit_ports(|ports| {
            ports.explicit = explicit;
            false
        });
        Ok(())
    }

    /// Asks the node's hosts (those of one portal group, if given) to log out.
    pub fn request_logout(&self, name: &str, pg_tag: Option<u32>) -> Result<(), IscsiError> {
        let device = self.server.state().node(name)?.device.name.clone();
        self.server.request_logout(|connection| {
            connection.target_node_name == device && pg_tag.is_none_or(|tag| tag == connection.portal_group)
        });
        Ok(())
    }

    // ---- what is going on

    /// Every live connection.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.server.state().connections.values().cloned().collect()
    }

    /// Connections by state.
    pub fn stats(&self) -> Stats {
        self.server.state().stats()
    }

    /// The volume has another size: every host that has it is told (unit attention, capacity data has changed).
    pub fn lun_changed(&self, volume: &str) {
        self.server.state().tell(volume, crate::scsi::unit::Happening::Capacity);
    }

    /// The volume is going: its units disappear from every node and are closed; hosts are told.
    pub fn volume_gone(&self, volume: &str) {
        let touched = self.server.state().drop_volume(volume);
        self.server
            .refresh(|connection| touched.contains(&connection.target_node_name));
    }

    /// Stops listening and drops every connection; true if all were gone within `patience`.
    pub fn shutdown(&self, patience: Duration) -> bool {
        let tags: Vec<u32> = self.server.state().groups.keys().copied().collect();
        tags.into_iter().for_each(|tag| self.server.unlisten(tag));
        self.server.drop_connections(|_| true);
        let end = std::time::Instant::now() + patience;
        while !self.server.state().connections.is_empty() {
            if std::time::Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}
