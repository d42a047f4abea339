//! The NVMe/TCP front end: listeners, subsystems, hosts and their keys.
use super::{Checker, How};
use crate::{
    names::{iqn, is_nqn, not_an_nqn, nqn, volume_name},
    schema::{At, Protocol},
};
use std::collections::{BTreeMap, BTreeSet};
use target::nvmf::{DupHostPolicy, SubsystemConfig};

impl<'a> Checker<'a> {
    pub(super) fn nvme(&mut self) {
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
            let shown = volume_name(name);
            let taken = self.config.targets.iscsi.nodes.iter().any(|n| *n.name == iqn(&shown))
                && volume.over.contains(&Protocol::Iscsi)
                || nvme.subsystems.iter().any(|s| *s.nqn == nqn(&shown)) && volume.over.contains(&Protocol::Nvme);
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
}
